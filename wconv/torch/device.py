"""Where and how tensors lie: on the CPU and strided. Anything else is refused by name."""

from __future__ import annotations

from typing import Any

KNOWN = ("cpu", "cuda", "mps", "meta", "xpu", "hpu", "xla", "ipu", "mtia", "vulkan")


class device:  # noqa: N801 - torch's name
    """A place for tensors. Any of torch's can be named (and compared); only "cpu" can hold tensors here."""

    __module__ = "torch"
    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type: str | device, index: int | None = None) -> None:
        given = str(type) if isinstance(type, device) else type
        if not isinstance(given, str):
            raise TypeError(f"device() needs a name such as 'cpu', got {given!r:.60}")
        name, colon, number = given.partition(":")
        if name not in KNOWN or (colon and not number.isdigit()):
            raise RuntimeError(f"Invalid device string: {given!r}")
        self.type = name
        self.index = int(number) if colon else index

    def __repr__(self) -> str:
        return f"device(type='{self.type}'" + (f", index={self.index})" if self.index is not None else ")")

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __reduce__(self) -> tuple[Any, ...]:
        return _device, (str(self),)


def _device(name: str) -> device:
    """device itself cannot be pickled by name: it goes by torch's."""
    return device(name)


CPU = device("cpu")


def require_cpu(where: Any) -> None:
    """Accepts None and the CPU.

    Raises:
        RuntimeError: another device was asked for: wconv.torch has no other.
        TypeError: `where` names no device.
    """
    if where is None:
        return
    if not isinstance(where, (str, device)):
        raise TypeError(f"{where!r:.60} is not a device")
    if device(where).type != "cpu":
        raise RuntimeError(
            f"device '{where}' is not offered: wconv.torch keeps tensors in the CPU's memory (use 'cpu')"
        )


class layout:  # noqa: N801 - torch's name
    """How a tensor's elements are arranged."""

    __module__ = "torch"

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)


class memory_format(layout):  # noqa: N801 - torch's name
    """The order in which a copy's axes lie in memory."""

    __module__ = "torch"


strided = layout("strided")
sparse_coo = layout("sparse_coo")
sparse_csr, sparse_csc = layout("sparse_csr"), layout("sparse_csc")
sparse_bsr, sparse_bsc = layout("sparse_bsr"), layout("sparse_bsc")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")

LAYOUTS = (strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc)
MEMORY_FORMATS = (contiguous_format, preserve_format, channels_last, channels_last_3d)


def _named(name: str) -> layout:
    """The layout or memory format of that name; there is one object of each."""
    return next(each for each in (*LAYOUTS, *MEMORY_FORMATS) if each.name == name)


def keeps_order(format: memory_format | None) -> bool:
    """Whether a copy keeps its source's order of axes (the default) or is C-contiguous.

    Raises:
        RuntimeError: another memory format was asked for.
    """
    if format is None or format is preserve_format:
        return True
    if format is contiguous_format:
        return False
    raise RuntimeError(f"{format} is not offered by wconv.torch: use torch.contiguous_format")


def require_strided(asked: layout | None) -> None:
    """Raises: RuntimeError: another layout than torch.strided was asked for."""
    if asked is not None and asked is not strided:
        raise RuntimeError(f"layout {asked} is not offered by wconv.torch: tensors are torch.strided")
