"""Runs the page's HTTP server: its routes, its checks of each request, and the socket that it listens on."""

import asyncio
import errno
import ipaddress
import socket
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keras_pretrain.serving.contents import Contents
from keras_pretrain.serving.inputs import MAX_CHARACTERS, MAX_SENTENCES, InputError, read_body, texts_of

if TYPE_CHECKING:
    from keras_pretrain.serving.answering import Answerer

_STATIC = Path(str(resources.files("keras_pretrain.serving") / "static"))
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def make_application(contents: Contents, answerer: "Answerer | None", host: str = "127.0.0.1") -> Starlette:
    """Make the ASGI application of the page.

    Args:
      contents: the contents of the folder.
      answerer: the networks of the folder; `None` for a run without a checkpoint.
      host: the address that the server is bound to. The server refuses requests with other host names. If other
        machines can reach this address, the server does not show the private settings of a run.
    """
    is_public = not is_loopback(host)
    one_at_a_time = asyncio.Lock()

    async def page(request: Request) -> Response:
        return FileResponse(_STATIC / "index.html")

    async def about(request: Request) -> Response:
        config = contents.encodes.config if contents.encodes else {}
        names = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
        return JSONResponse(
            {
                "folder": contents.folder.name if is_public else str(contents.folder),
                "tasks": contents.tasks,
                "model": {name: config[name] for name in names if name in config},
                "knows_hangul": answerer is not None and answerer.knows_hangul,
                "takes_pairs": contents.takes_pairs,
                "max_characters": MAX_CHARACTERS,
                "max_sentences": MAX_SENTENCES,
            }
        )

    async def run(request: Request) -> Response:
        from keras_pretrain.serving.report import report_run

        return JSONResponse(await run_in_threadpool(report_run, contents.folder, is_public=is_public))

    async def ask(request: Request) -> Response:
        from keras_pretrain.runs.metrics import as_json

        task = request.path_params["task"]
        if answerer is None or task not in contents.tasks or task == "run":
            raise HTTPException(404)
        texts = texts_of(await read_body(request), task)
        async with one_at_a_time:  # in a thread, so that the event loop can still serve the curves
            answer = await run_in_threadpool(answerer.answer, task, texts)
        return JSONResponse(as_json(answer))

    routes = [
        Route("/", page),
        Route("/api/about", about),
        *([Route("/api/run", run)] if contents.is_run else []),
        Route("/api/{task}", ask, methods=["POST"]),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, host=host)],
        exception_handlers={InputError: _wrong_input, HTTPException: _refused, Exception: _failed},
    )


def _error(code: str, message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message, "code": code}, status)


async def _wrong_input(request: Request, error: Any) -> Response:
    return _error(error.code, str(error), error.status)


async def _refused(request: Request, error: Any) -> Response:
    return _error("refused", f"{error.detail}: {request.method} {request.url.path}", error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer after an unexpected error; the server writes the traceback to standard error."""
    response = _error("failed", "The computation failed; the terminal shows why.", 500)
    response.headers["connection"] = "close"  # uvicorn closes it after an exception; this tells the client
    return response


class _Guard:
    """Refuses requests that use an unknown host name or come from another web page.

    Without this check, a foreign web page could send requests by making its own host name resolve to this machine (DNS
    rebinding). The class also adds the headers that keep the page from loading or sending anything elsewhere.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {*_LOOPBACK, host.lower()}
        # If the server is bound to all addresses, clients use any of them, or the machine's name.
        self._takes_addresses = host in ("0.0.0.0", "::")
        if self._takes_addresses:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        reason = self._refusal(Headers(scope=scope))
        app = self._app if reason is None else _error("refused", reason, 403)
        await app(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._knows(host):
            return f"Requests with the host name {host!r} are refused."
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "Requests from other web pages are refused."
        return None

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._takes_addresses and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
        return True
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    return host in _LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens. Call this before slow work, so that an unusable port is reported at once.

    Args:
      host: an address of this machine.
      port: the number of the port; 0 chooses any free one.

    Raises:
      ValueError: the port number is outside 0 to 65,535.
      OSError: the host is not an address of this machine, or the port is taken or needs other rights.
    """
    if not 0 <= port <= 65_535:
        raise ValueError(f"`port` must be from 0 to 65,535, not {port}.")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = {
            errno.EADDRINUSE: f"`port`: {port} is taken by another process. Choose another, or 0 for any free one.",
            errno.EACCES: f"`port`: {port} needs rights that you do not have. Choose one from 1024 on.",
        }.get(error.errno or 0, f"`host`: {host} is no address of this machine.")
        raise OSError(reason) from None


def make_server(application: Starlette) -> uvicorn.Server:
    """Make a server that logs only warnings and errors. Its `run` raises `KeyboardInterrupt` after Ctrl-C."""
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
