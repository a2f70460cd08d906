"""Files that scanners are compared on: what picklescan knows to be dangerous, wrapped, and good files.

Every dangerous pickle only names something and calls it with a harmless text; none is ever loaded.
"""

from __future__ import annotations

import gzip
import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

FIXTURES = Path(__file__).parents[3] / "fixtures"

NAMES = {"*": "run", "os": "system", "posix": "system", "nt": "system", "sys": "exit", "subprocess": "Popen"}
"""Modules of which all names are dangerous → one that is there."""


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def by_opcode(module: str, name: str) -> bytes:
    """`GLOBAL`, called with a text."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + _text("harmless") + b"\x85R."


def by_stack(module: str, name: str) -> bytes:
    """`STACK_GLOBAL`, called with a text."""
    names = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + names + b"\x93" + _text("harmless") + b"\x85R."


def as_torch(program: bytes) -> bytes:
    """A file of torch's zip form."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", program)
        archive.writestr("model/version", "3\n")
    return file.getvalue()


def as_tar(program: bytes) -> bytes:
    """A tar with one pickle in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("model.pkl")
        member.size = len(program)
        archive.addfile(member, io.BytesIO(program))
    return file.getvalue()


def as_numpy(program: bytes) -> bytes:
    """An array of objects."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    return b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n" + program


def after_another(program: bytes) -> bytes:
    """A harmless pickle, then the dangerous one."""
    return pickle.dumps({"a": 1}, 2) + program


def broken(program: bytes) -> bytes:
    """A program that breaks after what it would have run."""
    return program[:-1] + b"\xff"


def inside(program: bytes) -> bytes:
    """A pickle that carries another one as bytes and has it loaded."""
    return b"\x80\x03cpickle\nloads\nB" + len(program).to_bytes(4, "little") + program + b"\x85R."


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "x.pth": as_torch,
    "x.tar": as_tar,
    "x.npy": as_numpy,
    "x.pkl.gz": gzip.compress,
    "twice.pkl": after_another,
    "broken.pkl": broken,
    "inside.pkl": inside,
}


def dangerous(unsafe: dict[str, object]) -> Iterator[tuple[str, bytes]]:
    """Names and contents; `unsafe`: picklescan's own list of modules and names."""
    for module, names in sorted(unsafe.items()):
        if names == "*":
            names = {NAMES.get(module, NAMES["*"])}
        for name in sorted({names} if isinstance(names, str) else names):  # type: ignore[arg-type]
            yield f"{module}-{name}.pkl", by_opcode(module, name)
            yield f"{module}-{name}-stack.pkl", by_stack(module, name)
    for label, wrap in WRAPPINGS.items():
        yield f"os-{label}", wrap(by_opcode("os", "system"))


def make(directory: Path, unsafe: dict[str, object]) -> tuple[list[Path], list[Path]]:
    """Writes all files; which are dangerous, and which are good."""
    bad_files, good_files = directory / "dangerous", directory / "good"
    bad_files.mkdir()
    good_files.mkdir()
    for name, data in dangerous(unsafe):
        (bad_files / name).write_bytes(data)
    for path in sorted(FIXTURES.rglob("*")):
        if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".pkl") and path.is_file():
            shutil.copy(path, good_files / "-".join(path.relative_to(FIXTURES).parts))
    return sorted(bad_files.iterdir()), sorted(good_files.iterdir())
