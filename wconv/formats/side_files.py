"""The files beside a model's weights: from where they may come, and the one way to read them.

A downloaded repository could name any file of the machine by a link. Links are followed within the directory,
within the pipeline that it is a component of, and to the blobs of a hub cache that it belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wconv.errors import FormatError
from wconv.formats import json_text

JSON_LIMIT = 128 << 20
"""Bytes of config.json or of an index that are read at most."""

PIPELINE_INDEX = "model_index.json"
"""Names the components of a directory that has several."""

APPLE_DOUBLE = "._"
"""How the files begin that macOS puts beside others on foreign disks: attributes, never the content."""

OUTSIDE = "a link out of the directory"


def roots(directory: Path) -> tuple[Path, ...]:
    """The directories to which links of `directory` may lead."""
    real = directory.resolve()
    found = [real]
    if os.path.lexists(real.parent / PIPELINE_INDEX):
        found.append(real.parent)
    for place in (real, *real.parents):
        if place.parent.name == "snapshots":
            found.append(place.parent.parent / "blobs")
            break
    return tuple(found)


def leads_out(path: str | Path, allowed: Sequence[Path]) -> bool:
    """Whether a file is a link that leads elsewhere than to the directories of `roots`."""
    real = Path(os.path.realpath(path))
    return not any(real.is_relative_to(root) for root in allowed)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a regular file of bounded size, of the directory in which it is.

    Raises:
        FormatError: it is a link out of its directory, is too large, is no JSON, or no object.
    """
    from wconv.stores import files

    if leads_out(path, roots(path.parent)):
        raise FormatError(f"{path} is {OUTSIDE}, which is not followed: put a copy of the file in its place")
    file = files.opened(str(path))
    if file.size > JSON_LIMIT:
        raise FormatError(f"{path} is too large for what it should be: {file.size:,} bytes")
    text = bytes(file.read(0, file.size))
    if text.startswith(b"version https://git-lfs"):
        raise FormatError(f"{path} is a Git LFS pointer, not the file: run `git lfs pull`")
    value = json_text.read(text.removeprefix(b"\xef\xbb\xbf"), str(path))
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds no JSON object")
    return value
