"""Fixtures of these tests: folders of each kind with tiny models, their pages, and a browser.

No conftest.py, whose name would stand in the way of the one above it.
"""

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import threading

import pytest
import requests

import keras_pretrain as kp
from keras_pretrain.finetuning import load_classifier
from keras_pretrain.finetuning.finished_seeds import FinishedSeeds
from keras_pretrain.runs import BertSettings
from keras_pretrain.runs.metrics import write_record
from keras_pretrain.serving.answering import Answerer
from keras_pretrain.serving.application import listen, make_application, make_server
from keras_pretrain.serving.contents import inspect_folder


@pytest.fixture(scope="session")
def folders(tokenizer, tmp_path_factory):
    """A BERT, an ELECTRA, a classifier, a regressor and a bare encoder."""
    folder = tmp_path_factory.mktemp("folders")
    bert = kp.BertPretrainer.from_size("tiny", tokenizer, objective="mlm")
    kp.save_checkpoint(bert, tokenizer, folder / "bert")
    kp.save_checkpoint(kp.ElectraPretrainer.from_size("tiny", tokenizer), tokenizer, folder / "electra")
    for name, labels in {"classifier": ["나쁨", "좋음"], "regressor": ["score"]}.items():
        kp.save_checkpoint(load_classifier(folder / "bert", labels=labels), tokenizer, folder / name)
    from transformers import TFBertModel

    kp.save_checkpoint(TFBertModel(bert.config), tokenizer, folder / "encoder")
    return folder


class RunWriter:
    """Writes what a run of 40 steps writes, an epoch at a time, by the run's own writers."""

    def __init__(self, folder):
        self.folder, self.epoch = folder, 0
        self.settings = BertSettings(corpus_name="reviews", steps=40, steps_per_epoch=10, output=folder).completed()
        write_record(self.settings)
        self._history = kp.callbacks.CSVHistory(folder / "history.csv")
        self._history.set_params({"steps": 10})
        self._history.on_train_begin()

    def follow(self, recipe):
        write_record(dataclasses.replace(self.settings, recipe=recipe))

    def write_epoch(self, **logs):
        self._history.on_epoch_begin(self.epoch)
        self._history.on_epoch_end(self.epoch, {"tokens_per_second": 1000.0, "padding": 0.5} | logs)
        self.epoch += 1


@pytest.fixture
def run_writer(tmp_path):
    return RunWriter(tmp_path / "my_run")


class SeedWriter:
    """Writes what a fine-tuning of several seeds writes, an epoch of ten steps at a time, by its own writer."""

    def __init__(self, folder):
        self.folder = folder

    def write_epoch(self, seed, epoch, **logs):
        with FinishedSeeds.open(self.folder / "run", {}, resume=True) as finished:
            [history] = finished.callbacks(seed)
        history.set_params({"steps": 10})
        history.on_train_begin()
        history.on_epoch_begin(epoch)
        history.on_epoch_end(epoch, logs)


@pytest.fixture
def seed_writer(tmp_path):
    return SeedWriter(tmp_path / "my_classifier")


class Client(requests.Session):
    """A session with one server, by paths."""

    def __init__(self, address):
        super().__init__()
        self.address = address

    def request(self, method, path, **settings):
        return super().request(method, self.address + path, **settings)


@contextlib.contextmanager
def serving(folder, host="127.0.0.1"):
    """A client of a page that a thread serves, on loopback, as if it were bound to a host."""
    contents = inspect_folder(folder)
    application = make_application(contents, Answerer(contents) if contents.encodes else None, host)
    with listen("127.0.0.1", 0) as listening:
        server = make_server(application)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def clients(folders):
    """A client of each folder's page."""
    with contextlib.ExitStack() as stack:
        yield {path.name: stack.enter_context(serving(path)) for path in sorted(folders.iterdir())}


@pytest.fixture(scope="session")
def serve():
    """The context manager `serving`, for test modules."""
    return serving


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium. In CI it must be there."""
    executable = shutil.which("chromium")
    if executable is None or importlib.util.find_spec("playwright") is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("The page is tested with playwright in Chromium: pip install playwright; apt-get install chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
