"""A report that is served live, to this machine alone, while training goes on."""

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ppo2.plot.sources import CURVES, SETTINGS, TABLE, directories_of
from ppo2.reports.page import body, content, page
from ppo2.reports.runs import CLIPS, FILES, gather

LOOPBACK = "127.0.0.1"
PORT, PORTS = 8420, 20
"""The first port that is tried where none is given, and how many after it."""
REST = 4.0
"""Times as long as reading took that pass before files are read again: a long log doesn't cost the trainer a core."""
LEAST_REST = 1.0
FILM = "/film/"
"""Beginning of the paths of films."""
RANGE = re.compile(r"bytes=(\d+)-(\d*)")
FOR_GOOD = "private, max-age=86400, immutable"
"""Caching of what has another address once it changes."""


class Source:
    """The report as it is now, read again when a file has changed; from any thread."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self._lock = list(paths), threading.Lock()
        self._seen: object = None
        self._rest_until = 0.0
        self._content: dict[str, Any] = {}
        self._films: dict[str, Path] = {}
        self.version = ""

    def now(self) -> dict[str, Any]:
        """Content of the page."""
        with self._lock:
            seen = self._signature()
            if not self._content or (seen != self._seen and time.monotonic() >= self._rest_until):
                began = time.monotonic()
                found = gather(self._paths, may_be_missing=True)
                self._content = content(found, address_of=self._address_of)
                took = time.monotonic() - began
                self._rest_until = time.monotonic() + max(LEAST_REST, REST * took)
                self._seen, self.version = seen, f"{os.getpid()}-{time.time_ns()}"
            return self._content

    def _address_of(self, file: Path) -> str:
        """The address of a film, which is another one for each of its versions: a browser gets each once."""
        status = file.stat()
        version = f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
        address = f"{FILM}{hashlib.sha256(version.encode(errors='surrogateescape')).hexdigest()[:32]}"
        self._films[address] = file
        return address

    def film(self, address: str) -> tuple[bytes, str] | None:
        """The film that was given this address, and its type; None if there is none, or it has changed."""
        with self._lock:
            file = self._films.get(address)
            try:
                if file is None or self._address_of(file) != address:
                    return None
                return file.read_bytes(), CLIPS[file.suffix.lower()]
            except OSError:
                return None

    def _signature(self) -> object:
        """Sizes and times of all files that are read."""
        found = []
        for path in self._paths:
            for run in [path, *directories_of(path)]:
                for name in (*FILES, SETTINGS, TABLE, CURVES, "videos"):
                    try:
                        status = (run / name).stat()
                        found.append((str(run / name), status.st_size, status.st_mtime_ns))
                    except OSError:
                        continue
        return found


def serve(paths: Sequence[Path], port: int | None, say: Callable[[str], None]) -> None:
    """Serves the report of runs until KeyboardInterrupt: also of runs that have not begun.

    Args:
        port: None takes the first free one from `PORT` on.
        say: is told the address.

    Raises:
        ValueError: `port` isn't one, or can't be had.
    """
    source = Source(paths)
    source.now()  # what can't be shown at all is an error before the address is told
    with _server(port, source) as server:
        say(f"http://{LOOPBACK}:{server.server_port}/  (for this machine alone; Ctrl-C ends it)")
        server.serve_forever(poll_interval=0.2)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = sys.platform != "win32"  # where it would take a port that is in use

    def __init__(self, port: int, source: Source) -> None:
        self.source = source
        super().__init__((LOOPBACK, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that has gone away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _server(port: int | None, source: Source) -> _Server:
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"`port` (={port}) must be between 0 and 65535; 0 takes any that is free")
    asked = range(PORT, PORT + PORTS) if port is None else [port]
    for one in asked:
        try:
            return _Server(one, source)
        except OSError as error:
            why = error.strerror or str(error)
    if port is None:
        raise ValueError(f"no port from {PORT} to {PORT + PORTS - 1} can be had ({why}): give a free one as `port`")
    raise ValueError(f"`port` (={port}) can't be had ({why}): give another, or none, which takes the next that is free")


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD: the page at /, its news at /state, its films at addresses of their own."""

    server: _Server
    server_version, sys_version = "ppo2", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._answer(HTTPStatus.FORBIDDEN, "this page is for the machine that it is served on\n")
            return
        asked = urlsplit(self.path)
        if asked.path == "/":
            self._answer(HTTPStatus.OK, page(self.server.source.now(), live=True), "text/html")
        elif asked.path == "/state":
            found, version = self.server.source.now(), self.server.source.version
            if version in parse_qs(asked.query).get("after", ()):
                news: dict[str, Any] = {"version": version}
            else:
                news = {"version": version, "charts": found["charts"], "body": body(found)}
            self._answer(HTTPStatus.OK, json.dumps(news), "application/json")
        elif (film := self.server.source.film(asked.path)) is not None:
            self._answer_with_film(*film)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there is nothing here but /\n")

    do_HEAD = do_GET  # noqa: N815

    def _is_for_us(self) -> bool:
        """True if the browser means this server by its own name: a page elsewhere may have a name of its own resolved
        to this machine, and would then read what is served.
        """
        host = self.headers.get("Host", "")
        port = self.server.server_port
        return host in {f"{name}:{port}" for name in (LOOPBACK, "localhost", "[::1]")}

    def _answer_with_film(self, data: bytes, kind: str) -> None:
        """Answers with a film, or with the part that is asked for, as browsers do that seek in it."""
        more, asked = {"Accept-Ranges": "bytes"}, RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or int(asked[1]) >= len(data):
            self._send(HTTPStatus.OK, data, kind, FOR_GOOD, more)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        more["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(HTTPStatus.PARTIAL_CONTENT, data[first : last + 1], kind, FOR_GOOD, more)

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        self._send(status, text.encode("utf-8", errors="replace"), f"{kind}; charset=utf-8", "no-store", {})

    def _send(self, status: HTTPStatus, data: bytes, kind: str, caching: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", caching)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Says nothing of each request."""
