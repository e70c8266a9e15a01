"""A Hub on loopback: the endpoints that uploads use, and what can go wrong at each."""

import hashlib
import json
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "Sesame" * 5


class Hub:
    """What a server has been told, and how it is to answer.

    `failures` maps the beginning of what follows the host in an address, such as `/api/repos/create`, to the statuses
    that the next requests get instead of an answer.
    """

    def __init__(self):
        self.repositories = {}  # repo_id → {"private": …, "files": {path: bytes}, "messages": […]}
        self.large_files = {}  # sha256 → bytes
        self.requests = []  # (method, path)
        self.failures = {}
        self.gate = threading.Event()  # commits wait for it
        self.gate.set()

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def count(self, method: str, start: str) -> int:
        return sum(m == method and path.startswith(start) for m, path in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_):
        pass

    def do_POST(self):
        self._serve("POST")

    def do_PUT(self):
        self._serve("PUT")

    def do_GET(self):
        self._serve("GET")

    def _serve(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((method, self.path))
        for start, statuses in self.hub.failures.items():
            if self.path.startswith(start) and statuses:
                return self._answer({"error": "out of order"}, statuses.pop(0))
        if not self.path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer({"error": "Invalid credentials in Authorization header"}, 401)
        return self._route(body)

    def _route(self, body):
        hub, path = self.hub, self.path
        if path.startswith("/lfs/"):
            if hashlib.sha256(body).hexdigest() != path.removeprefix("/lfs/"):
                return self._answer({"error": "the content is not what was announced"}, 422)
            hub.large_files[path.removeprefix("/lfs/")] = body
            return self._answer({})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo_id = f"{asked.get('organization') or 'me'}/{asked['name']}"
            exists = repo_id in hub.repositories
            hub.repositories.setdefault(repo_id, {"private": asked.get("private"), "files": {}, "messages": []})
            return self._answer({"url": f"{hub.url}/{repo_id}"}, 409 if exists else 200)
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if "/preupload/" in path:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._answer({"transfer": "basic", "objects": [self._offer(f) for f in json.loads(body)["objects"]]})
        if "/commit/" in path:
            return self._commit(path.split("/api/models/")[1].split("/commit/")[0], body)
        return self._answer({"error": f"no such endpoint: {path}"}, 404)

    def _offer(self, file):
        """Where a large file goes; nowhere, if it is there."""
        known = file["oid"] in self.hub.large_files
        return file if known else file | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{file['oid']}"}}}

    def _commit(self, repo_id, body):
        self.hub.gate.wait(10)
        repository = self.hub.repositories[repo_id]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository["messages"].append(value["summary"])
            elif line["key"] == "file":
                repository["files"][value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository["files"][value["path"]] = self.hub.large_files[value["oid"]]
        return self._answer({"commitUrl": f"{self.hub.url}/{repo_id}/commit/1", "commitOid": "1"})

    def _answer(self, content, status=200):
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)
