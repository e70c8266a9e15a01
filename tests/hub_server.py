"""A Hub on loopback: the endpoints that uploads and downloads use, and what can go wrong at each."""

import hashlib
import json
import threading
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "Sesame" * 5


class Hub:
    """What a server has been told, and how it is to answer.

    `failures` maps the beginning of what follows the host in an address, such as `/api/repos/create`, to the statuses
    that the next requests get instead of an answer.
    """

    def __init__(self):
        # repo_id → {"private": …, "files": {path: bytes}, "messages": […], "commits": {hash: {path: bytes}}}
        self.repositories = {}
        self.large_files = {}  # sha256 → bytes
        self.requests = []  # (method, path)
        self.failures = {}
        self.gate = threading.Event()  # requests with `held` in their address wait for it
        self.held = "/commit/"
        self.waiting = threading.Event()  # one does
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

    def do_HEAD(self):
        self._serve("HEAD")

    def _serve(self, method):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append((method, self.path))
        for start, statuses in self.hub.failures.items():
            if self.path.startswith(start) and statuses:
                return self._answer({"error": "out of order"}, statuses.pop(0))
        if self.hub.held in self.path and not self.hub.gate.is_set():
            self.hub.waiting.set()
            self.hub.gate.wait(30)
        is_allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if method in ("GET", "HEAD"):
            return self._read(unquote(urlsplit(self.path).path), is_allowed)
        if not self.path.startswith("/lfs/") and not is_allowed:
            return self._answer({"error": "Invalid credentials in Authorization header"}, 401)
        return self._route(body)

    def _read(self, path, is_allowed):
        """`/api/models/ME/IT`, `/api/models/ME/IT/revision/REVISION`, `/api/models/ME/IT/tree/REVISION`, or
        `/ME/IT/resolve/REVISION/FILE`."""
        owner, name, *rest = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.hub.repositories.get(f"{owner}/{name}")
        if repository is None or (repository["private"] and not is_allowed):
            return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        commits = repository["commits"]
        revision = rest[1] if len(rest) > 1 else "main"
        commit = list(commits)[-1] if revision == "main" and commits else revision
        if commit not in commits:
            return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = commits[commit]
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": file, "size": len(data), "oid": _oid(data)} for file, data in files.items()
            ]
            return self._answer(entries)
        if rest[:1] != ["resolve"]:
            siblings = [{"rfilename": file} for file in files]
            return self._answer({"id": f"{owner}/{name}", "sha": commit, "siblings": siblings, "private": False})
        file = "/".join(rest[2:])
        headers = {"X-Repo-Commit": commit}
        if file not in files:
            return self._answer({"error": "Entry not found"}, 404, headers | {"X-Error-Code": "EntryNotFound"})
        return self._answer(files[file], 200, headers | {"ETag": f'"{_oid(files[file])}"'})

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
            new = {"private": asked.get("private"), "files": {}, "messages": [], "commits": {}}
            hub.repositories.setdefault(repo_id, new)
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
        repository = self.hub.repositories[repo_id]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository["messages"].append(value["summary"])
            elif line["key"] == "file":
                repository["files"][value["path"]] = b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository["files"][value["path"]] = self.hub.large_files[value["oid"]]
        number = len(repository["commits"]) + 1
        repository["commits"][f"{number:040x}"] = dict(repository["files"])
        return self._answer({"commitUrl": f"{self.hub.url}/{repo_id}/commit/{number}", "commitOid": f"{number:040x}"})

    def _answer(self, content, status=200, headers=None):
        encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
