"""Private and undocumented names of 🤗 datasets (5.0)."""

from pathlib import Path

import datasets
from datasets import Dataset


def is_name_of_reader(name: str) -> bool:
    """Whether a name is one of `load_dataset`'s file readers, such as `"csv"`, and not the name of a dataset."""
    return name in datasets.packaged_modules._PACKAGED_DATASETS_MODULES


def fingerprint(dataset: Dataset) -> str:
    """Return a string that identifies the content of a dataset. It is equal for equal data made in the same way."""
    return dataset._fingerprint


def cache_folder() -> Path:
    """The cache folder of `datasets`: `HF_DATASETS_CACHE` or its default."""
    return Path(datasets.config.HF_DATASETS_CACHE)
