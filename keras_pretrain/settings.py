"""The settings with which a dataset was made, kept on the dataset object itself."""

from datasets import Dataset

_ATTRIBUTE = "_keras_pretrain_settings"


def attach(dataset: Dataset, **settings: object) -> Dataset:
    """Attach settings, such as `cleaning="prose"`, to a dataset.

    They are a plain Python attribute of this object: a copy or a pickle of it has them, but `map`, `select`, `filter`,
    `concatenate_datasets` and saving give a dataset without them. Code that needs a lost setting asks the user for it.
    (`DatasetInfo` is not used, because it is saved, and stays with a dataset whose rows have changed.)

    Args:
      dataset: the dataset; it is changed in place. Settings that it already has and that are not named here are kept.
      **settings: what to keep.

    Returns:
      The same dataset.
    """
    setattr(dataset, _ATTRIBUTE, settings_of(dataset) | settings)
    return dataset


def settings_of(dataset: object) -> dict:
    """The settings attached to a dataset, as a new dictionary; empty if there are none."""
    return dict(getattr(dataset, _ATTRIBUTE, None) or {})
