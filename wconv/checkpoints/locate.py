"""What a source names: a path of this machine first, then an address, then a model of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from wconv.checkpoints.hints import may_be_on_the_hub, missing_source
from wconv.errors import FormatError
from wconv.stores.store import scheme_of

KEEP = "--keep-source is for models of the hub"
HF = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+))?", re.ASCII)


def locate(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    keep: bool = False,
) -> Path:
    """The file or directory to open: a local one as it is, others as one that stands for them.

    Args:
        source: a path, an address (`https://host/model.safetensors`, `s3://bucket/model`), a model of the hub
            (`org/name`), or that with what is wanted of it (`hf://org/name@revision/folder`). Only a string
            can be the others.
        revision: of a model of the hub: a branch, a tag or a commit.
        token: for the hub; by default that of the environment or of a login.
        keep: of a model of the hub, what is read is to stay in the hub's cache.

    Raises:
        FormatError: it is nowhere, or elsewhere and cannot be had.
    """
    if os.path.lexists(source) or not isinstance(source, str):
        return _local(Path(source), revision, keep)
    if source.startswith("hf://"):
        named = HF.fullmatch(source)
        if named is None:
            raise FormatError(f"{source} names no model of the hub: hf://org/name@revision/folder does")
        if revision is not None and named[2]:
            raise FormatError(f"{source} has a revision already: leave --revision out")
        return _below(_model(named[1], named[2] or revision, token, keep), named[3], source)
    if source.lower().startswith(("https://", "http://")):
        return _address(source, revision, token, keep)
    scheme = scheme_of(source)
    if scheme and scheme != "file":
        return _in_store(source, revision, keep)
    if may_be_on_the_hub(source):
        return _model(source, revision, token, keep)
    return _local(Path(source), revision, keep)


def _local(path: Path, revision: str | None, keep: bool) -> Path:
    if not os.path.lexists(path):
        raise FormatError(missing_source(path))
    if revision is not None:
        raise FormatError(f"--revision is for models of the hub, and {path} is a path")
    if keep:
        raise FormatError(f"{KEEP}, and {path} is a path")
    return path


def _model(repository: str, revision: str | None, token: str | None, keep: bool) -> Path:
    from wconv.stores import hub

    if token is not None:
        hub.use_token(token)
    return hub.open_model(hub.Model(repository, revision or "main"), keep=keep)


def _below(directory: Path, inner: str | None, text: str) -> Path:
    if not inner:
        return directory
    place = directory / inner
    if ".." in inner.split("/") or not place.exists():
        raise FormatError(f"{text}: there is no {inner} in that model")
    return place


def _address(url: str, revision: str | None, token: str | None, keep: bool) -> Path:
    """A file at an address; the hub's own pages are taken for the models that they show."""
    from urllib.parse import unquote, urlsplit

    from wconv.stores import http, hub, remote, stand_ins

    http.parse(url)
    if http.origin(url) == http.origin(hub.endpoint()):
        words = urlsplit(url).path.strip("/").split("/")
        if len(words) == 2:
            return _model("/".join(words), revision, token, keep)
        if len(words) > 4 and words[2] == "blob":
            url = url.replace("/blob/", "/resolve/", 1)
        if token is not None:
            hub.use_token(token)
    if revision is not None:
        raise FormatError(f"--revision is for models of the hub, not for {http.shown(url)}")
    if keep:
        raise FormatError(f"{KEEP}, not for {http.shown(url)}")
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not name or name in (".", "..") or "\\" in name or not name.isprintable():
        raise FormatError(f"{http.shown(url)} names no file: https://host/path/model.safetensors does")
    called = http.shown(url)
    found = remote.probe(url, called)
    return stand_ins.make_directory("files", {name: found}, called.rpartition("/")[0]) / name


def _in_store(url: str, revision: str | None, keep: bool) -> Path:
    """A file, or a directory of them, in an object store."""
    from wconv.stores import http, stand_ins, store_file

    called = http.shown(url).rstrip("/")
    if revision is not None:
        raise FormatError(f"--revision is for models of the hub, not for {called}")
    if keep:
        raise FormatError(f"{KEEP}, not for {called}")
    found = store_file.find(url)
    name = called.rpartition("/")[2] or "files"
    if set(found) == {""}:
        return stand_ins.make_directory("files", {name: found[""]}, called.rpartition("/")[0]) / name
    return stand_ins.make_directory(name, found, called)


def leave() -> None:
    """Removes what stands for sources elsewhere: the program ends without Python's own clearing up."""
    from wconv.stores import stand_ins

    stand_ins.remove_all(os.getpid())
