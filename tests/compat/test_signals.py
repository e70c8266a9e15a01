"""Handlers that were set from C, and from another thread than the main one."""

import ctypes
import os
import signal
import threading
import time

import pytest

from keras_pretrain.compat import signals
from keras_pretrain.compat.signals import read_action, set_handler


def pointer(action: bytes) -> int:
    """The handler's address, which on Linux is the first field."""
    return int.from_bytes(action[: ctypes.sizeof(ctypes.c_void_p)], "little")


@pytest.fixture
def sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_a_handler_from_c_is_put_back():
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    harmless = ctypes.cast(libc.abs, ctypes.c_void_p).value
    libc.signal(signal.SIGTERM, harmless)
    before = read_action(signal.SIGTERM)
    assert pointer(before) == harmless
    seen = []
    for _ in range(2):  # the second time, Python takes the handler for its own
        put_back = set_handler(signal.SIGTERM, lambda *_: seen.append(1))
        signal.raise_signal(signal.SIGTERM)
        put_back()
        assert read_action(signal.SIGTERM)[:16] == before[:16]  # handler and mask
    assert len(seen) == 2


@pytest.mark.usefixtures("sigterm")
def test_a_handler_from_python_is_put_back():
    def handler(*_):
        pass

    signal.signal(signal.SIGTERM, handler)
    set_handler(signal.SIGTERM, lambda *_: None)()
    assert signal.getsignal(signal.SIGTERM) is handler


def in_thread(function, main_thread):
    thread = threading.Thread(target=function)
    thread.start()
    main_thread(thread)
    thread.join()


@pytest.mark.usefixtures("sigterm")
def test_a_handler_is_set_from_another_thread():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def other():
        put_back = set_handler(signal.SIGTERM, lambda *_: seen.append(threading.current_thread()))
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            if seen:
                break
            threading.Event().wait(0.01)
        put_back()

    def wait(thread):
        while thread.is_alive():
            thread.join(0.01)

    in_thread(other, wait)
    assert seen == [threading.main_thread()]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("sigterm")
def test_a_main_thread_that_is_busy_in_c_is_waited_for():
    """That of a worker of Ray Train executes Python every two seconds, when it is asked how it is."""
    results = []

    def other():
        time.sleep(0.2)
        results.append(set_handler(signal.SIGTERM, lambda *_: None))

    in_thread(other, lambda _: time.sleep(2))
    assert results[0] is not None


@pytest.mark.parametrize("even_later", [False, True])
def test_a_main_thread_that_executes_nothing_is_not_waited_for(monkeypatch, even_later):
    monkeypatch.setattr(ctypes.pythonapi, "Py_AddPendingCall", lambda *_: 0)
    called, results = [], []

    def other():
        results.append(signals.run_in_main_thread(lambda: called.append(1), seconds=0.01, even_later=even_later))

    in_thread(other, threading.Thread.join)
    assert results == [False]
    signals._answer_all(None)
    assert called == [1] * even_later
