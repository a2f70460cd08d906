"""A hub on loopback that takes uploads, as far as the client's `create_repo` and `upload_file` ask."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class UploadHub:
    """What a hub has got.

    Attributes:
        files: by their names in the repository.
        objects: large contents by their SHA-256.
        sent: SHA-256 of each large content that was sent, in order.
        refuse: status that is answered to whoever makes a repository; 0 to take it.
        tokens: the values of `Authorization` that came.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    refuse: int = 0
    tokens: set[str] = field(default_factory=set)


@contextmanager
def upload_hub() -> Iterator[UploadHub]:
    hub = UploadHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def answer(self, value: object, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            digest = self.path.rpartition("/")[2]
            hub.objects[digest] = self.body()
            hub.sent.append(digest)
            self.answer({})

        def do_GET(self) -> None:
            hub.tokens.add(self.headers.get("Authorization") or "")
            self.answer({"error": "no"}, 404)

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization") or "")
            data = self.body()
            if self.path == "/api/repos/create":
                if hub.refuse:
                    self.answer({"error": f"not with {self.headers.get('Authorization')}"}, hub.refuse)
                else:
                    self.answer({"url": f"{hub.url}/me/made", "name": "me/made"})
            elif self.path.endswith("/preupload/main"):
                asked = json.loads(data)["files"]
                rows = [{"path": one["path"], "uploadMode": mode(one["path"])} for one in asked]
                self.answer({"files": [{**row, "shouldIgnore": False, "oid": None} for row in rows]})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = []
                for one in json.loads(data)["objects"]:
                    row = {"oid": one["oid"], "size": one["size"]}
                    if one["oid"] not in hub.objects:
                        row["actions"] = {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}
                    objects.append(row)
                self.answer({"objects": objects})
            elif "/commit/" in self.path:
                for line in map(json.loads, data.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.files[value["path"]] = base64.b64decode(value["content"])
                        hub.order.append(value["path"])
                    elif line["key"] == "lfsFile":
                        hub.files[value["path"]] = hub.objects[value["oid"]]
                        hub.order.append(value["path"])
                self.answer({"commitUrl": f"{hub.url}/me/made/commit/0", "commitOid": "0" * 40})
            else:
                self.answer({}, 200)

    def mode(path: str) -> str:
        return "lfs" if path.endswith(".safetensors") else "regular"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
