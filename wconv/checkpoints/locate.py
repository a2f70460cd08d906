"""What a source names: a path of this machine first, then an address, then a model of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from wconv.checkpoints.hints import may_be_on_the_hub, missing_source
from wconv.errors import FormatError

HF = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/]+))?(?:/(.+))?", re.ASCII)


def locate(source: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None) -> Path:
    """The file or directory to open: a local one as it is, others as one that stands for them.

    Args:
        source: a path, an address (`https://host/model.safetensors`), a model of the hub (`org/name`), or
            that with what is wanted of it (`hf://org/name@revision/folder`). Only a string can be the others.
        revision: of a model of the hub: a branch, a tag or a commit.
        token: for the hub; by default that of the environment or of a login.

    Raises:
        FormatError: it is nowhere, or elsewhere and cannot be had.
    """
    if os.path.lexists(source) or not isinstance(source, str):
        return _local(Path(source), revision)
    if source.startswith("hf://"):
        named = HF.fullmatch(source)
        if named is None:
            raise FormatError(f"{source} names no model of the hub: hf://org/name@revision/folder does")
        if revision is not None and named[2]:
            raise FormatError(f"{source} has a revision already: leave --revision out")
        return _below(_model(named[1], named[2] or revision, token), named[3], source)
    if source.lower().startswith(("https://", "http://")):
        return _address(source, revision, token)
    if may_be_on_the_hub(source):
        return _model(source, revision, token)
    return _local(Path(source), revision)


def _local(path: Path, revision: str | None) -> Path:
    if not os.path.lexists(path):
        raise FormatError(missing_source(path))
    if revision is not None:
        raise FormatError(f"--revision is for models of the hub, and {path} is a path")
    return path


def _model(repository: str, revision: str | None, token: str | None) -> Path:
    from wconv.stores import hub

    if token is not None:
        hub.use_token(token)
    return hub.open_model(hub.Model(repository, revision or "main"))


def _below(directory: Path, inner: str | None, text: str) -> Path:
    if not inner:
        return directory
    place = directory / inner
    if ".." in inner.split("/") or not place.exists():
        raise FormatError(f"{text}: there is no {inner} in that model")
    return place


def _address(url: str, revision: str | None, token: str | None) -> Path:
    """A file at an address; the hub's own pages are taken for the models that they show."""
    from urllib.parse import unquote, urlsplit

    from wconv.stores import http, hub, remote, stand_ins

    http.parse(url)
    if http.origin(url) == http.origin(hub.endpoint()):
        words = urlsplit(url).path.strip("/").split("/")
        if len(words) == 2:
            return _model("/".join(words), revision, token)
        if len(words) > 4 and words[2] == "blob":
            url = url.replace("/blob/", "/resolve/", 1)
        if token is not None:
            hub.use_token(token)
    if revision is not None:
        raise FormatError(f"--revision is for models of the hub, not for {http.shown(url)}")
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    if not name or name in (".", "..") or "\\" in name or not name.isprintable():
        raise FormatError(f"{http.shown(url)} names no file: https://host/path/model.safetensors does")
    called = http.shown(url)
    found = remote.probe(url, called)
    return stand_ins.make_directory("files", {name: found}, called.rpartition("/")[0]) / name


def leave() -> None:
    """Removes what stands for sources elsewhere: the program ends without Python's own clearing up."""
    from wconv.stores import stand_ins

    stand_ins.remove_all(os.getpid())
