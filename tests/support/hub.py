"""A stand-in for the Hugging Face Hub on this machine: the part of its HTTP interface that pushing and loading use.

Repositories are folders of files. What is large (`.safetensors`, `.png`, `.mp4`) goes through LFS, as on the Hub.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", ".png", ".mp4", ".gif")


class Hub(ThreadingHTTPServer):
    """Attributes: repos: content of files, by repository and name; private: repositories; requests: (method, path)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit_of(self, repo: str) -> str:
        files = self.repos[repo]
        text = json.dumps({name: hashlib.sha256(of).hexdigest() for name, of in sorted(files.items())})
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer_get(with_body=False)

    def do_GET(self) -> None:
        self._answer_get(with_body=True)

    def do_POST(self) -> None:
        path, body = self._begin()
        hub = self.server
        if self.headers.get("Authorization") != "Bearer hf_stand_in":
            self._send(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            if name in hub.repos:
                self._send(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
                return
            hub.repos[name] = {}
            if given.get("private") or given.get("visibility") == "private":
                hub.private.add(name)
            self._send(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})
        elif found := re.fullmatch(r"/api/models/(.+)/preupload/[^/]+", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": of["path"], "uploadMode": "lfs" if of["path"].endswith(LARGE) else "regular"}
                | {"shouldIgnore": False, "oid": None}
                for of in files
            ]
            self._send(200, {"files": modes})
        elif found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {"oid": of["oid"], "size": of["size"], "actions": {"upload": {"href": f"{hub.url}/lfs/{of['oid']}"}}}
                for of in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/[^/]+", path):
            repo = found[1]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.repos[repo][value["path"]] = hub.blobs[value["oid"]]
            oid = hub.commit_of(repo)
            self._send(200, {"commitOid": oid, "commitUrl": f"{hub.url}/{repo}/commit/{oid}", "success": True})
        elif path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        else:
            self._send(404, {"error": f"no such thing: {path}"})

    def do_PUT(self) -> None:
        path, body = self._begin()
        oid = path.removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self._send(200, {})

    def _begin(self) -> tuple[str, bytes]:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.requests.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        return path, self.rfile.read(length)

    def _answer_get(self, *, with_body: bool) -> None:
        path, _ = self._begin()
        hub = self.server
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/([^/]+))?", path):
            if found[1] not in hub.repos or (found[3] not in (None, "main", hub.commit_of(found[1]))):
                self._missing("RepoNotFound" if found[1] not in hub.repos else "RevisionNotFound")
                return
            self._send(200, self._info(found[1]))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            content = hub.repos.get(found[1], {}).get(found[3])
            if content is None:
                self._missing("EntryNotFound")
                return
            etag = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": hub.commit_of(found[1]), "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
            self._send(200, content, headers, with_body=with_body)
        else:
            self._missing("EntryNotFound")

    def _info(self, repo: str) -> dict[str, Any]:
        siblings = []
        for name, of in self.server.repos[repo].items():
            blob = hashlib.sha1(f"blob {len(of)}\0".encode() + of, usedforsecurity=False).hexdigest()
            sibling: dict[str, Any] = {"rfilename": name, "size": len(of), "blobId": blob}
            if name.endswith(LARGE):
                sibling["lfs"] = {"sha256": hashlib.sha256(of).hexdigest(), "size": len(of), "pointerSize": 130}
            siblings.append(sibling)
        return {"id": repo, "modelId": repo, "sha": self.server.commit_of(repo), "siblings": siblings, "tags": []}

    def _missing(self, code: str) -> None:
        self._send(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: Any, headers: Any = None, *, with_body: bool = True) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body and self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """Context with a stand-in that answers."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
