"""Installs signal handlers from any thread, and restores earlier ones, including those that C code installed."""

import contextlib
import ctypes
import queue
import signal
import threading
from collections.abc import Callable

_ANSWER_SECONDS = 10.0  # enough for Ray Train, whose main thread executes Python every 2 s
_SIGACTION_BYTES = 1024  # larger than libc's `struct sigaction` on any platform; only libc reads its content


def set_handler(number: int, handler: Callable) -> Callable[[], object] | None:
    """Set a signal handler from any thread.

    Python sets handlers in the main thread only. If this is called from another thread (as under Ray Train, which runs
    `fit` in one), the main thread sets the handler as soon as it executes Python again.

    Args:
      number: the number of the signal.
      handler: as for `signal.signal`.

    Returns:
      A function that restores the previous handler, even one that was set from C; `None` if the main thread did not set
      the handler within ten seconds.
    """
    previous: list[tuple] = []

    def set_it() -> None:
        action = read_action(number)
        previous.append((signal.signal(number, handler), action))

    def put_back() -> None:
        in_python, action = previous[0]
        # If C code had set the handler, `signal.signal` returned None, and only the action describes this handler.
        signal.signal(number, signal.SIG_DFL if in_python is None else in_python)
        write_action(number, action)

    if not run_in_main_thread(set_it, seconds=_ANSWER_SECONDS):
        return None
    return lambda: run_in_main_thread(put_back, seconds=1.0, even_later=True)


def run_in_main_thread(function: Callable[[], object], *, seconds: float, even_later: bool = False) -> bool:
    """Have the main thread call a function between two of its instructions, and wait until it has done so.

    Args:
      function: must not raise.
      seconds: how long to wait.
      even_later: if true, the main thread may call the function after `seconds` have passed; else the call is
        cancelled.

    Returns:
      Whether the function was called. A main thread that waits in C, for example in `Thread.join()`, does not call
      it.
    """
    if threading.current_thread() is threading.main_thread():
        function()
        return True
    request = _Request(function)
    _requests.put(request)
    ctypes.pythonapi.Py_AddPendingCall(_ANSWER, None)
    if not request.is_done.wait(seconds) and not even_later:
        request.withdraw()
    return request.is_done.is_set()


class _Request:
    """A function for the main thread to call once."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._lock, self.is_done = threading.Lock(), threading.Event()

    def withdraw(self) -> None:
        with self._lock:
            self._function = None

    def answer(self) -> None:
        with self._lock:
            if self._function is not None:
                self._function()
                self.is_done.set()


def _answer_all(_: object) -> int:
    with contextlib.suppress(queue.Empty):
        while True:
            _requests.get_nowait().answer()
    return 0


_requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
_ANSWER = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_answer_all)  # never freed: Python may call it at any time


def read_action(number: int) -> bytes:
    """Read the handler, mask and flags of a signal from the kernel, as the bytes of libc's `struct sigaction`."""
    action = ctypes.create_string_buffer(_SIGACTION_BYTES)
    _check(_libc().sigaction(number, None, action))
    return action.raw


def write_action(number: int, action: bytes) -> None:
    """Set the handler, mask and flags that `read_action` returned."""
    _check(_libc().sigaction(number, ctypes.create_string_buffer(action, len(action)), None))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), "sigaction failed")
