"""Models of the Hugging Face hub: what is in one, its cache on this machine, and who one is there.

The variables and files are those of huggingface_hub (its `constants.py`): `HF_ENDPOINT`, `HF_HOME`,
`HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_TOKEN`, `HF_TOKEN_PATH`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wconv.errors import SECRETS, FormatError, OutputError
from wconv.stores import http, patience, stand_ins
from wconv.stores.patience import ServerError
from wconv.stores.stand_ins import Remote

LISTING, FILES = 64 << 20, 50_000
"""Bytes of a listing that are read at most, and files that it may name."""

SHORTEST_SECRET = 8
"""Letters of a token from which on it is struck out wherever it would be printed."""

COMMIT = re.compile(r"[0-9a-f]{40}")

_given: list[str] = []


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the hub.

    Attributes:
        repository: "org/name".
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = "main"


def endpoint() -> str:
    """The hub's address."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether the hub is not to be asked."""
    said = (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper()
    return said in ("1", "ON", "YES", "TRUE")


def _home() -> Path:
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface"


def _cache() -> Path:
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(given).expanduser() if given else _home() / "hub"


def use_token(token: str) -> None:
    """Takes a token for this program, before that of the environment. Raises `FormatError`: it is none."""
    _given[:] = [_checked(token, "--token")]


def token() -> str:
    """The token that is to be used, "" for none: given, of `HF_TOKEN`, or of the file that a login leaves.

    Raises:
        FormatError: what is there is no token.
    """
    if _given:
        return _given[0]
    said = (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
    if said:
        return _checked(said, "HF_TOKEN")
    place = Path(os.environ.get("HF_TOKEN_PATH") or _home() / "token").expanduser()
    try:
        return _checked(place.read_text().strip(), str(place))
    except (OSError, UnicodeDecodeError):
        return ""


def _checked(text: str, where: str) -> str:
    """A token that can stand in a header; it is never shown."""
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 4096:
        raise FormatError(f"{where} holds no token: one is a word of plain letters and digits")
    if len(text) >= SHORTEST_SECRET:
        SECRETS.add(text)
    return text


def authorization(url: str) -> str:
    """The value of `Authorization` for an address: for the hub itself, and no other server."""
    if http.origin(url) != http.origin(endpoint()):
        return ""
    found = token()
    return f"Bearer {found}" if found else ""


def open_model(model: Model, *, keep: bool = False) -> Path:
    """A directory with the model's files: a snapshot that is whole in the cache, or stand-ins.

    Args:
        keep: what is read is to stay in the cache.

    Raises:
        FormatError: there is no such model, it may not be read, or the hub cannot be reached.
    """
    if is_offline():
        return _cached(model) or _absent(model)
    try:
        listing = _listing(model)
    except FormatError as error:
        there = _cached(model) if _is_unreachable(error) else None
        if there is None:
            raise
        return there
    commit, files = _files(model, listing, keep=keep)
    snapshot = _snapshots(model) / commit
    if keep:
        _remember(model, commit)
    if files and all(remote.local for remote in files.values()):
        return snapshot
    return stand_ins.make_directory(model.repository.rpartition("/")[2], files, model.repository)


def _remember(model: Model, commit: str) -> None:
    """Notes in the cache which commit a branch or tag is. Raises `OutputError`."""
    if COMMIT.fullmatch(model.revision):
        return
    place = _snapshots(model).parent / "refs" / model.revision
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(commit)
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}") from None


def _is_unreachable(error: FormatError) -> bool:
    context = error.__context__
    return isinstance(context, OSError) and not (isinstance(context, ServerError) and context.status)


def _snapshots(model: Model) -> Path:
    return _cache() / f"models--{model.repository.replace('/', '--')}" / "snapshots"


def _cached(model: Model) -> Path | None:
    """The snapshot of a revision in the cache."""
    snapshots, revision = _snapshots(model), model.revision
    if not COMMIT.fullmatch(revision):
        try:
            revision = (snapshots.parent / "refs" / revision).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
    found = snapshots / revision
    return found if COMMIT.fullmatch(revision) and found.is_dir() else None


def _absent(model: Model) -> Path:
    raise FormatError(
        f"{model.repository} does not exist here, nor ({model.revision}) in the cache of the hub, which is"
        f" not asked because HF_HUB_OFFLINE is set"
    )


def _listing(model: Model) -> dict[str, Any]:
    """What the hub tells of a model. Raises `FormatError`."""
    revision = quote(model.revision, safe="")
    url = f"{endpoint()}/api/models/{model.repository}/revision/{revision}?blobs=true"
    http.parse(url)
    texts: list[bytes] = []

    def attempt() -> int:
        with http.exchange(url, {"Accept": "application/json"}, authorization) as answer:
            text = answer.response.read(LISTING + 1)
            if answer.length >= 0 and len(text) < min(answer.length, LISTING):
                raise ServerError("the connection was cut")
            texts.append(text)
            return 1

    patience.patiently(attempt, 1, f"{model.repository} on the hub", lambda problem: _refused(model, problem))
    if len(texts[-1]) > LISTING:
        raise FormatError(
            f"{model.repository} has too many files: its listing is more than {LISTING:,} bytes"
        )
    try:
        found = json.loads(texts[-1])
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and len(found.get("siblings") or "") > FILES:
        raise FormatError(f"{model.repository} has more than {FILES:,} files: download what you need of it")
    if not isinstance(found, dict):
        raise FormatError(f"{http.shown(url)} answers something else than a model: is HF_ENDPOINT right?")
    return found


def _files(model: Model, listing: dict[str, Any], *, keep: bool) -> tuple[str, dict[str, Remote]]:
    """The commit and its files. Raises `FormatError`: the listing is not what the hub sends."""
    try:
        commit = listing["sha"]
        if not COMMIT.fullmatch(commit):
            raise ValueError
        base = f"{endpoint()}/{model.repository}/resolve/{commit}/"
        files: dict[str, Remote] = {}
        folder = _snapshots(model).parent
        for one in listing["siblings"]:
            lfs = one.get("lfs") or {}
            name, size = one["rfilename"], lfs.get("size", one.get("size"))
            etag = lfs.get("sha256") or one.get("blobId") or ""
            if not isinstance(name, str) or type(size) is not int or size < 0 or not isinstance(etag, str):
                raise ValueError
            local = _local(model, commit, name, size)
            called = f"{model.repository}/{name}"
            stays = keep and not local and bool(etag)
            files[name] = Remote(
                base + quote(name),
                etag,
                size,
                called,
                linked=True,
                local=local,
                keep=str(folder / "blobs" / etag) if stays else "",
                snapshot=str(folder / "snapshots" / commit / name) if stays else "",
            )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FormatError(f"the hub's listing of {model.repository} is damaged: try again") from None
    return commit, files


def _local(model: Model, commit: str, name: str, size: int) -> str:
    """A file of the cache; "" where it is not there, or is a link out of the model's folder."""
    folder = _snapshots(model).parent
    place = os.path.realpath(folder / "snapshots" / commit / name)
    try:
        whole = os.stat(place).st_size == size
    except (OSError, ValueError):
        return ""
    return place if whole and Path(place).is_relative_to(os.path.realpath(folder)) else ""


def _refused(model: Model, problem: ServerError) -> str:
    """What to tell of the hub's refusal to list a model."""
    name, revision, known = model.repository, model.revision, bool(token())
    login = "" if known else "; for a private one, set HF_TOKEN or run `hf auth login`"
    if problem.code == "RevisionNotFound":
        return f"{name} has no revision {revision} on the hub"
    if problem.code == "GatedRepo" or problem.status == 403:
        return _gated(name, known)
    if problem.code == "RepoNotFound" or problem.status == 404:
        return f"{name} does not exist here, and the hub shows no model of that name{login}"
    if problem.status == 401:
        if known:
            return f"{name} cannot be read: the hub does not take the token (401); run `hf auth login` again"
        return f"{name} does not exist here, and the hub shows it to nobody without a login{login}"
    if not problem.status:
        return f"{name} does not exist here, and the hub cannot be asked for it: {problem.text}"
    return ""


def _gated(name: str, known: bool) -> str:
    what = "with the account of the token" if known else "then set HF_TOKEN or run `hf auth login`"
    return f"{name} is gated: accept its terms at {http.shown(endpoint())}/{name}, {what}"


def refusal(url: str, name: str, problem: ServerError) -> str:
    """What to tell where a file of the hub cannot be had; "" where the server is another."""
    if http.origin(url) != http.origin(endpoint()) or problem.status not in (401, 403):
        return ""
    if problem.code == "GatedRepo" or problem.status == 403:
        return _gated("/".join(name.split("/")[:2]), bool(token()))
    what = "does not take the token" if token() else "asks for a login"
    return f"{name} cannot be read: the hub {what} (401); set HF_TOKEN or run `hf auth login`"
