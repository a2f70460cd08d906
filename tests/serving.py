"""A server of files on loopback, with every bad habit that servers have, and a hub made of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, dict[str, str]]
"""A status and headers."""


@dataclass
class Served:
    """What a server has, how it behaves, and what it was asked.

    Attributes:
        files: path → content.
        redirects: path → where it is sent on to.
        refused: called with the path, the query and the headers of a request; an answer in place of the file.
        cut: bytes after which the connection is cut, each time; 0 for never.
        ranges: whether it sends parts.
        etags: path → ETag, where it is not the content's digest.
        links: path → headers of an answer that redirects.
        asked: the requests: path, headers.
        sent: bytes of bodies.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    refused: Callable[[str, dict[str, str]], Answer | None] = lambda path, headers: None
    cut: int = 0
    ranges: bool = True
    etags: dict[str, str] = field(default_factory=dict)
    links: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0

    def etag(self, path: str) -> str:
        return self.etags.get(path) or f'"{hashlib.sha256(self.files[path]).hexdigest()}"'


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """A server, until the block ends."""
    served, counting = Served(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, *, body: bool = True) -> None:
            path = unquote(urlsplit(self.path).path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.asked.append((self.path, headers))
            refused = served.refused(path, headers)
            if refused is not None:
                self.answer(*refused)
            elif path in served.redirects:
                more = served.links.get(path, {})
                self.answer(302, {"Location": served.redirects[path], **more})
            elif path not in served.files:
                self.answer(404, {})
            else:
                self.send_file(path, headers.get("range"), body)

        def answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send_file(self, path: str, wanted: str | None, body: bool) -> None:
            data = served.files[path]
            size, first, last = len(data), 0, len(data)
            if wanted and served.ranges:
                start, _, stop = wanted.removeprefix("bytes=").partition("-")
                first, last = int(start), min(int(stop or size - 1) + 1, size)
                if first >= size:
                    return self.answer(416, {"Content-Range": f"bytes */{size}"})
            self.send_response(206 if wanted and served.ranges else 200)
            if wanted and served.ranges:
                self.send_header("Content-Range", f"bytes {first}-{last - 1}/{size}")
            self.send_header("ETag", served.etag(path))
            self.send_header("Accept-Ranges", "bytes")
            for name, value in served.links.get(path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(last - first))
            self.end_headers()
            if not body:
                return None
            part = data[first:last]
            if served.cut and len(part) > served.cut:
                part = part[: served.cut]
                self.close_connection = True
            with contextlib.suppress(OSError):
                with counting:  # before the client can look at it
                    served.sent += len(part)
                self.wfile.write(part)
            return None

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: Any) -> None:
            """A client that goes away is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_model(hub: Served, repository: str, files: dict[str, bytes], *, store: Served | None = None) -> None:
    """Makes a server the hub of a model, as huggingface_hub's client knows it.

    Args:
        store: another server, to which the weights are redirected.
    """
    siblings = []
    for name, data in files.items():
        path, digest = f"/{repository}/resolve/{COMMIT}/{name}", hashlib.sha256(data).hexdigest()
        row: dict[str, Any] = {"rfilename": name, "size": len(data)}
        headers = {"X-Repo-Commit": COMMIT}
        if name.endswith((".safetensors", ".bin")):
            row |= {"blobId": digest[:40], "lfs": {"sha256": digest, "size": len(data), "pointerSize": 134}}
            hub.etags[path] = f'"{digest}"'
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        else:
            row["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            hub.etags[path] = f'"{row["blobId"]}"'
        siblings.append(row)
        hub.links[path] = headers
        if store is not None and "lfs" in row:
            place = f"/blobs/{digest}"
            store.files[place] = data
            hub.redirects[path] = f"{store.url}{place}?X-Amz-Signature=secretsignature"
        else:
            hub.files[path] = data
    listing = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
    tree = []
    for row in siblings:
        entry = {"type": "file", "path": row["rfilename"], "size": row["size"], "oid": row["blobId"]}
        if "lfs" in row:
            entry["lfs"] = {**row["lfs"], "oid": row["lfs"]["sha256"]}
        tree.append(entry)
    hub.files[f"/api/models/{repository}/tree/{COMMIT}"] = json.dumps(tree).encode()
    for revision in ("main", COMMIT):
        place = f"/api/models/{repository}/revision/{revision}"
        hub.files[place] = json.dumps(listing).encode()
    hub.files[f"/api/models/{repository}"] = json.dumps(listing).encode()


def ranges(served: Served) -> list[tuple[int, int]]:
    """The ranges that were asked for."""
    found = []
    for _, headers in served.asked:
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            found.append((int(first), int(last) + 1))
    return found
