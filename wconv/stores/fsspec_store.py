"""Object stores through fsspec and its file systems: `s3://`, `gs://`, and whatever else it knows.

Keys, regions and endpoints are set as those file systems have it: by their usual variables
(`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`) and by fsspec's own (`FSSPEC_S3_ENDPOINT_URL`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from wconv.errors import FormatError, WconvError, hide
from wconv.extras import require
from wconv.stores.patience import ServerError
from wconv.stores.store import ChangedError, StoreFile

IDENTITIES = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
"""What file systems call that by which a content can be told from another, the best first."""

FILES = 50_000
"""Files of a directory at most."""


class FsspecStore:
    """The file system of one scheme."""

    def __init__(self, scheme: str) -> None:
        """Finds the file system.

        Raises:
            FormatError: fsspec knows no such scheme.
            WconvError: fsspec, or the package of the file system, is not installed.
        """
        fsspec = require("fsspec", f"{scheme}://")
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            known = "https://, hf://, s3:// and gs:// are, and what fsspec or a package of yours adds"
            raise FormatError(f"{scheme}:// is no kind of address that is known: {known}") from None
        except ImportError as error:
            package = _package(scheme, error)
            raise WconvError(
                f"{scheme}:// needs {package}, which is not installed: pip install 'wconv[hub]' {package}"
            ) from None
        self._scheme = scheme

    def _file_system(self, url: str) -> tuple[Any, str]:
        import fsspec

        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        return system, path

    def find(self, url: str) -> Mapping[str, StoreFile]:
        """As `Store` has it."""
        with _plain_errors():
            system, path = self._file_system(url)
            system.invalidate_cache()
            info = system.info(path)
            if info["type"] == "file":
                return {"": _file(info)}
            found: dict[str, StoreFile] = {}
            base = path.rstrip("/") + "/"
            for name, one in system.find(path, detail=True).items():
                if one["type"] == "file" and name.startswith(base):
                    found[name[len(base) :]] = _file(one)
                if len(found) > FILES:
                    raise FormatError(f"there are more than {FILES:,} files: name a directory that has fewer")
        if not found:
            raise FileNotFoundError
        return found

    def read(self, url: str, start: int, stop: int, identity: str) -> bytes:
        """As `Store` has it; the identity is asked for after the bytes came."""
        with _plain_errors():
            system, path = self._file_system(url)
            data: bytes = system.cat_file(path, start=start, end=stop)
            if identity:
                system.invalidate_cache()
                if _file(system.info(path)).identity != identity:
                    raise ChangedError("changed")
        return data

    def put(self, path: str, url: str) -> None:
        """Stores a local file at an address, in place of what is there."""
        with _plain_errors():
            system, place = self._file_system(url)
            parent = place.rpartition("/")[0]
            if parent and self._scheme in ("file", "local", "memory", "sftp", "ssh", "smb", "hdfs"):
                system.makedirs(parent, exist_ok=True)
            system.put_file(path, place)


def _package(scheme: str, error: ImportError) -> str:
    """The package that a scheme's file system is in."""
    from fsspec.registry import known_implementations

    said = known_implementations.get(scheme, {}).get("class", "")
    home: str = said.partition(".")[0]
    return home if home and home != "fsspec" else (error.name or "another package").partition(".")[0]


def _file(info: Mapping[str, Any]) -> StoreFile:
    size = info.get("size")
    if type(size) is not int or size < 0:
        raise FormatError("the store does not say how large the file is")
    identity = next((info[key] for key in IDENTITIES if info.get(key)), "")
    return StoreFile(size, str(identity).removeprefix("W/").strip('"'))


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Makes what a file system's library raises an `OSError` with one line of text."""
    try:
        yield
    except (OSError, WconvError):
        raise
    except Exception as error:
        text = hide(str(error).strip().split("\n")[0])[:150]
        name = type(error).__name__
        final = "Credentials" in name
        advice = ": set its keys, or FSSPEC_S3_ANON=true for a public bucket" if final else ""
        raise ServerError(f"{name}: {text}{advice}" if text else name, final=final) from None
