"""What all tests share: no network, caches of their own, and a vocabulary small enough to read."""

import contextlib
import logging
import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="keras_pretrain_tests_")
os.environ["HF_HOME"] = _cache.name
os.environ["HF_DATASETS_CACHE"] = os.path.join(_cache.name, "datasets")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
from datasets import Dataset
from hub_server import Hub
from huggingface_hub.utils import reset_sessions

import keras_pretrain as kp

kp.enable_logging()  # as commands and examples do; without it, nothing is set up

WORDS = ["가", "나", "다", "라", "마", "바", "사", "아", "자", "차"]


# First those that fork processes, which TensorFlow's threads, once they run, can crash. Then the canaries, since their
# failures explain others. Then, since two processes share the files, the longest ones, or the end waits for one of
# them.
FIRST = ("test_preparation.py", "test_building.py")
CANARIES = ("test_canaries.py", "test_border.py")
LONGEST = ("test_checkpointing.py", "test_workers.py", "test_electra.py", "test_examples.py", "test_training_step.py")


def pytest_collection_modifyitems(items):
    order = {name: number for number, name in enumerate(FIRST + CANARIES + LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@contextlib.contextmanager
def no_xla():
    """XLA takes seconds to compile what most tests run for a few steps: the same functions without it."""
    import tensorflow as tf

    from keras_pretrain.models import precision

    function = tf.function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_compare_precisions", lambda: ("XLA is off", 0.0))
        patch.setattr(tf, "function", lambda *args, jit_compile=None, **settings: function(*args, **settings))
        yield


@pytest.fixture
def without_xla():
    with no_xla():
        yield


@pytest.fixture
def package_log(caplog):
    """`caplog` that sees the package's log, which does not reach the root logger, and nobody else's."""
    logger, only_ours = logging.getLogger("keras_pretrain"), logging.Filter("keras_pretrain")
    logger.addHandler(caplog.handler)
    caplog.handler.addFilter(only_ours)
    yield caplog
    caplog.handler.removeFilter(only_ours)
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope="session")
def tokenizer():
    """Five special tokens, then ten words of one syllable, each a token: 가 = 5 … 차 = 14."""
    tokenizer = kp.train_tokenizer([" ".join(WORDS)] * 2, vocab_size=15)
    assert sorted(tokenizer.convert_ids_to_tokens(range(5, 15))) == WORDS
    return tokenizer


@pytest.fixture(scope="session")
def sentences():
    """Forty documents of eight sentences; in each document, words follow one another in a fixed order."""
    documents = [
        [" ".join(WORDS[(start + i + k) % 10] for k in range(3 + (start * i) % 5)) for i in range(8)]
        for start in range(40)
    ]
    return Dataset.from_dict({"sentences": documents})


@pytest.fixture
def hub(monkeypatch):
    """A Hub on loopback, and the client told to go there."""
    with Hub() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)  # HF_ENDPOINT, which is read at import
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        reset_sessions()  # those of the offline mode
        yield server
    reset_sessions()


@pytest.fixture(scope="session")
def ray_engine():
    """Two processors of this machine as a cluster."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[distributed]'")
    from keras_pretrain.preparation import RayEngine

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield RayEngine()
    ray.shutdown()
