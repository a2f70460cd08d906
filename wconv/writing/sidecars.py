"""The files of a model directory that are not weights: copied as they are; config and index are new."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.errors import OutputError
from wconv.formats import registry, side_files
from wconv.formats.side_files import APPLE_DOUBLE
from wconv.stores import files

BOOKKEEPING = (".git", ".cache", "__pycache__", ".gitattributes")
"""What downloading leaves in a directory."""

_SURROGATE = re.compile("[\ud800-\udfff]")

OF_MODELS = re.compile(
    r"(?!trainer_state|metadata\.json|scheduler|accelerate|latest|zero_|universal|commit_success|_)"
    r"[^/]+\.(?:json|model|txt|jinja|tiktoken|md|py|spm)|LICENSE[^/]*|NOTICE"
)
"""The files of a model that trainers keep beside what they save; the rest is of the training."""

INDEX = re.compile(r".*\.index(\.[^.]+)?\.json")
"""An index of shards, also that of a variant of the weights."""


@dataclass(frozen=True, slots=True)
class Sidecars:
    """What will be copied, and what will not.

    Attributes:
        copied: paths relative to the model directory.
        left_out: relative path → reason.
        nbytes: of all that is copied.
    """

    copied: tuple[str, ...]
    left_out: Mapping[str, str]
    nbytes: int


def find(
    directory: Path,
    weights: Collection[Path],
    *,
    components: Collection[str] = (),
    picked: Collection[str] | None = None,
    only: re.Pattern[str] | None = None,
) -> Sidecars:
    """Looks through a model directory and its sub-directories.

    Links are followed within the directory, and to the blobs of a hub cache that it belongs to; a link that
    leads elsewhere is left out, since a downloaded repository could otherwise name any file of the machine.

    Args:
        weights: files that are converted: neither copied nor told.
        components: sub-directories whose weights are converted.
        picked: the only sub-directories that are wanted.
        only: the names of the only files that are wanted; of what else is there, nothing is told.
    """
    taken = {os.path.relpath(path, directory) for path in weights}
    roots = side_files.roots(directory)
    copied: list[str] = []
    left_out: dict[str, str] = {}
    total = 0
    pending = [""]
    while pending:
        below = pending.pop()
        for entry in sorted(os.scandir(directory / below), key=lambda entry: entry.name):
            path = f"{below}/{entry.name}" if below else entry.name
            if path in taken or (only is not None and not (entry.is_file() and only.fullmatch(entry.name))):
                continue
            reason = _reason(entry, roots, converted=not below or below in components)
            if picked is not None and not below and entry.is_dir() and path not in (*picked, *BOOKKEEPING):
                reason = "not among --component"
            elif reason == OTHER_FORM and components and not below:
                reason = "the components hold the same weights"
            if reason is not None:
                if reason:
                    left_out[path] = reason
            elif entry.is_dir():
                pending.append(path)
            else:
                copied.append(path)
                total += files.size(entry.path)
    return Sidecars(tuple(copied), left_out, total)


OTHER_FORM = "weights in another form"


def _reason(entry: os.DirEntry[str], roots: Sequence[Path], *, converted: bool) -> str | None:
    """Why an entry is not copied: None when it is, "" when nobody needs to be told.

    Args:
        converted: the weights in its directory are converted.
    """
    name = entry.name
    if name in BOOKKEEPING or name.startswith(APPLE_DOUBLE):
        return ""
    if entry.is_symlink():
        real = Path(os.path.realpath(entry.path))
        if not real.exists():
            return "a link to nothing"
        if side_files.leads_out(entry.path, roots):
            return side_files.OUTSIDE
        if entry.is_dir():
            return "a link to a directory"
    if entry.is_dir():
        return None
    if not entry.is_file():
        return "not a regular file"
    if INDEX.fullmatch(name):
        return "" if converted else None
    if name.endswith((*registry.weights_suffixes(), *registry.FOREIGN)) and not _is_other_binary(entry):
        return OTHER_FORM if converted else "weights in a sub-directory: convert it by itself"
    return None


def _is_other_binary(entry: os.DirEntry[str]) -> bool:
    """`.bin` says little, since vocabularies are called so too: weights are a zip or a pickle."""
    if not entry.name.endswith(".bin") or entry.name.startswith(("pytorch_model", "diffusion_pytorch_model")):
        return False
    if entry.name == "training_args.bin":
        return True
    file = files.opened(entry.path)
    return not bytes(file.read(0, min(file.size, 2))).startswith((b"PK", b"\x80"))


def copy(sidecars: Sidecars, source: Path, target: Path, *, but: Collection[str] = ()) -> None:
    """Copies every sidecar except those named in `but`.

    Raises:
        OutputError: a file cannot be copied.
    """
    for path in sidecars.copied:
        if path in but:
            continue
        try:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            files.copy(str(source / path), str(target / path))
        except OSError as error:
            raise OutputError(
                f"{source / path} cannot be copied to {target / path}: {error.strerror}"
            ) from None


def json_bytes(value: Mapping[str, Any], *, indent: int | None = 2) -> bytes:
    """A JSON file as the hub's tools write it: indented by two, not escaped, one newline at the end.

    Without an indent each item has a line all the same; json writes that ten times as fast.

    Only halves of characters, which UTF-8 lacks, are escaped, as they were in the source.
    """
    item = "," if indent else ",\n"
    text = json.dumps(value, indent=indent, ensure_ascii=False, separators=(item, ": ")) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()
