"""Results that go elsewhere: `--upload-repo org/name`, and `-o s3://bucket/model`."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wconv import errors

if TYPE_CHECKING:
    from wconv.conversion.report import Report
    from wconv.conversion.uploads import Upload

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.ASCII | re.IGNORECASE)


def address_of(place: Path | None) -> str | None:
    """The address that an output is; None for a path of this machine. A path has lost one of its slashes."""
    found = ADDRESS.fullmatch(str(place)) if place is not None else None
    return f"{found[1]}://{found[2]}" if found else None


@contextmanager
def uploading(
    parameters: dict[str, Any], repository: str | None, *, overwrite: bool
) -> Iterator[Upload | None]:
    """What is to be uploaded, and to where; the output of `parameters` becomes a temporary one if need be.

    Raises:
        OutputError: it cannot be written there.
        click.UsageError: two places are named.
    """
    key = next((key for key in ("output", "destination") if address_of(parameters[key])), None)
    if key is None and repository is None:
        yield None
        return
    from wconv.conversion import uploads

    if key is None:
        yield uploads.to_repository(str(repository), parameters["token"])
        return
    if repository is not None:
        raise click.UsageError("--upload-repo does not go with an output that is an address")
    address = str(address_of(parameters[key]))
    upload = uploads.to_store(address, overwrite=overwrite)
    staging = tempfile.mkdtemp(prefix="wconv-")
    try:
        parameters[key] = Path(staging, address.rstrip("/").rpartition("/")[2])
        errors.CALLED[str(parameters[key])] = upload.target.name
        yield upload
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def uploaded(upload: Upload | None, report: Report) -> tuple[Report, list[str]]:
    """Uploads a result where that is wanted: the report of it where it is then, and what is to be printed."""
    if upload is None:
        return report, []
    lines = upload.carry_out(report)
    if upload.moves:  # no program loads it from there
        report = dataclasses.replace(report, command="", known="")
    return report, lines
