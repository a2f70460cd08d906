"""Places elsewhere that files are stored in: repositories of the hub, and object stores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from wconv.errors import OutputError, WconvError, hide
from wconv.extras import require
from wconv.stores import http, hub
from wconv.stores.fsspec_store import FsspecStore
from wconv.stores.schemes import store_of
from wconv.stores.store import Store


class Destination(Protocol):
    """Where files go. Its methods raise `OutputError`."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def put(self, path: str, name: str) -> None:
        """Stores a local file under a name there, in place of what is there."""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub.

    Attributes:
        name: "org/name".
        api: huggingface_hub's client.
    """

    name: str
    api: Any

    def put(self, path: str, name: str) -> None:
        """As `Destination` has it; what the hub has already of a file is not sent again."""
        with _one_line(f"{name} cannot be uploaded to {self.name}"):
            self.api.upload_file(
                path_or_fileobj=path,
                path_in_repo=name,
                repo_id=self.name,
                commit_message=f"Upload {name} with wconv",
            )


def open_repository(name: str, token: str | None) -> Repository:
    """A repository of the hub, which is made if there is none.

    Raises:
        OutputError: the hub does not let it be made, or cannot be asked.
        WconvError: huggingface_hub is not installed.
    """
    client = require("huggingface_hub", "uploading to the hub")
    if hub.is_offline():
        raise OutputError(f"{name} cannot be uploaded to: HF_HUB_OFFLINE is set")
    if token is not None:
        hub.use_token(token)
    known = hub.token()
    if not known:
        raise OutputError(
            f"{name} cannot be uploaded to without a login: set HF_TOKEN or run `hf auth login`"
        )
    api = client.HfApi(endpoint=hub.endpoint(), token=known)
    with _one_line(f"{name} cannot be made on the hub"):
        api.create_repo(repo_id=name, exist_ok=True)
    return Repository(name, api)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, or the place of one file, in an object store.

    Attributes:
        name: its address without secrets.
        url: its address.
        store: its file system.
        is_file: whether it is the place of one file.
    """

    name: str
    url: str
    store: FsspecStore
    is_file: bool

    def put(self, path: str, name: str) -> None:
        """As `Destination` has it."""
        url = self.url if self.is_file else f"{self.url}/{name}"
        with _one_line(f"{http.shown(url)} cannot be written"):
            self.store.put(path, url)


def open_folder(url: str, *, overwrite: bool, is_file: bool) -> Folder:
    """A place in an object store.

    Raises:
        OutputError: something is there already, or the store cannot be asked.
        WconvError: what it needs is not installed.
    """
    name = http.shown(url).rstrip("/")
    store: Store = store_of(url)
    if not isinstance(store, FsspecStore):
        raise OutputError(f"{name} cannot be written: that store can only be read")
    with _one_line(f"{name} cannot be asked for"):
        try:
            there = bool(store.find(url))
        except FileNotFoundError:
            there = False
    if there and not overwrite:
        raise OutputError(f"{name} exists already: choose another output, or add --overwrite")
    return Folder(name, url.rstrip("/"), store, is_file)


@contextlib.contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Makes what a client raises one line without secrets."""
    try:
        yield
    except WconvError:
        raise
    except Exception as error:
        text = " ".join(hide(str(error)).split())[:200]
        raise OutputError(f"{what}: {text or type(error).__name__}") from None
