"""What lies in an output: tensors of all components and of an optimizer, and weights that are not its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wconv import opening
from wconv.tensors.base import LazyTensor
from wconv.writing.plan import within


@dataclass(frozen=True, slots=True)
class OpenedOutput:
    """What lies in an output.

    Attributes:
        tensors: by name; those of a component begin with its sub-directory, those of a file that is not the
            model's with its name.
        skipped: why some cannot be read.
        left_over: weights files that are not the output's, with the reason.
    """

    tensors: Mapping[str, LazyTensor]
    skipped: Mapping[str, str]
    left_over: Mapping[str, str]


def open_output(place: Path, parts: Iterable[str], beside: Collection[str]) -> OpenedOutput:
    """Opens an output.

    Args:
        parts: of a pipeline, its components' sub-directories.
        beside: files of tensors that are not the model's.

    Raises:
        FormatError: it cannot be read.
    """
    tensors: dict[str, LazyTensor] = {}
    skipped: dict[str, str] = {}
    left_over: dict[str, str] = {}
    for name in tuple(parts) or ("",):
        opened = opening.open(place / name if name else place, skip_unreadable=True)
        tensors.update((within(name, tensor), opened[tensor]) for tensor in opened)
        skipped.update((within(name, tensor), reason) for tensor, reason in opened.skipped.items())
        left_over.update(
            (within(name, file), f"holds weights that are not this output's: {reason}")
            for file, reason in opened.left_out.items()
        )
    for filename in sorted(beside):
        left_over.pop(filename, None)
        opened = opening.open(place / filename, skip_unreadable=True)
        tensors.update((f"{filename}:{tensor}", opened[tensor]) for tensor in opened)
    return OpenedOutput(tensors, skipped, left_over)
