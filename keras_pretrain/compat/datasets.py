"""Private and undocumented names of 🤗 datasets (5.0)."""

from pathlib import Path

import datasets
from datasets import Dataset


def is_name_of_reader(name: str) -> bool:
    """Whether `load_dataset` takes a name for one of its readers of files, such as `"csv"`, not for a dataset."""
    return name in datasets.packaged_modules._PACKAGED_DATASETS_MODULES


def fingerprint(dataset: Dataset) -> str:
    """Identifies the content of a dataset: equal for equal data that were made in the same way."""
    return dataset._fingerprint


def cache_folder() -> Path:
    """Where `datasets` keeps what it has made: `HF_DATASETS_CACHE` or its default."""
    return Path(datasets.config.HF_DATASETS_CACHE)
