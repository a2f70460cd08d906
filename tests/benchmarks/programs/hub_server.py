"""A hub of one model on loopback, out of a directory: prints its address and serves until its input ends."""

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/model"

directory = Path(sys.argv[1])
files = {path.name: path for path in directory.iterdir()}


def digest(path: Path) -> str:
    """The file's SHA-256, kept beside the directory: the hub has it at hand, too."""
    kept = directory.parent / f"{path.name}.sha256"
    if not kept.exists():
        made = hashlib.sha256()
        with path.open("rb") as file:
            while data := file.read(1 << 22):
                made.update(data)
        kept.write_text(made.hexdigest())
    return kept.read_text()


digests = {name: digest(path) for name, path in files.items()}
siblings = [
    {"rfilename": name, "size": path.stat().st_size, "blobId": digests[name][:40]}
    | {"lfs": {"sha256": digests[name], "size": path.stat().st_size, "pointerSize": 134}}
    for name, path in files.items()
]
listing = json.dumps(
    {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "siblings": siblings, "tags": []}
).encode()
tree = json.dumps(
    [
        {"type": "file", "path": one["rfilename"], "size": one["size"], "oid": one["blobId"]}
        | {"lfs": {**one["lfs"], "oid": one["lfs"]["sha256"]}}
        for one in siblings
    ]
).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/{MODEL}/resolve/"):
            self.send(files[path.rpartition("/")[2]], body)
            return
        data = tree if "/tree/" in path else listing
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def send(self, path: Path, body: bool) -> None:
        size, wanted = path.stat().st_size, self.headers.get("Range")
        start, stop = 0, size
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else size, size)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", f'"{digests[path.name]}"')
        self.send_header("X-Linked-Etag", f'"{digests[path.name]}"')
        self.send_header("X-Linked-Size", str(size))
        self.send_header("X-Repo-Commit", COMMIT)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        self.wfile.flush()
        if body:
            with path.open("rb") as file:
                while start < stop:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}", flush=True)
sys.stdin.read()
