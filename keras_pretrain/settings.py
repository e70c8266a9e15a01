"""What a dataset was made with, kept on the dataset object itself."""

from datasets import Dataset

_ATTRIBUTE = "_keras_pretrain_settings"


def attach(dataset: Dataset, **settings: object) -> Dataset:
    """Keep settings, such as `cleaning="prose"`, with a dataset.

    They are a plain Python attribute of this object: a copy or a pickle of it has them, but `map`, `select`, `filter`,
    `concatenate_datasets` and saving give a dataset without them. Code that needs a setting that is lost asks the user
    for it. (`DatasetInfo` would be saved, and would go on with a dataset whose rows have been changed since.)

    Args:
      dataset: is changed in place; settings that it has already and that are not named here stay.
      **settings: what to keep.

    Returns:
      The same dataset.
    """
    setattr(dataset, _ATTRIBUTE, settings_of(dataset) | settings)
    return dataset


def settings_of(dataset: object) -> dict:
    """The settings that were attached to a dataset, as a new dictionary; empty where there are none."""
    return dict(getattr(dataset, _ATTRIBUTE, None) or {})
