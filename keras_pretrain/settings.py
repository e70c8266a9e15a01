"""Keeps the settings with which a dataset was made, as an attribute of the dataset object."""

from datasets import Dataset

_ATTRIBUTE = "_keras_pretrain_settings"


def attach(dataset: Dataset, **settings: object) -> Dataset:
    """Attach settings, such as `cleaning="prose"`, to a dataset.

    They are a plain Python attribute of the object. Copies and pickles of the dataset keep them, but `map`, `select`,
    `filter`, `concatenate_datasets` and saving lose them. Code that needs a lost setting asks the user for it.
    (`DatasetInfo` is not used, because datasets keep it when their rows change, and the settings would then be wrong.)

    Args:
      dataset: the dataset; it is changed in place. Settings that it already has and that are not named here are kept.
      **settings: the settings to attach.

    Returns:
      The same dataset.
    """
    setattr(dataset, _ATTRIBUTE, settings_of(dataset) | settings)
    return dataset


def settings_of(dataset: object) -> dict:
    """The settings attached to a dataset, as a new dictionary; empty if there are none."""
    return dict(getattr(dataset, _ATTRIBUTE, None) or {})
