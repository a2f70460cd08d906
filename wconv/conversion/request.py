"""What a conversion is asked for, checked and completed with what follows from it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import registry
from wconv.consumers.lay_out import HUB
from wconv.conversion import outputs
from wconv.conversion.output_dtypes import TARGETS
from wconv.errors import OutputError, WconvError, require_name
from wconv.layouts.apply import Layout
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType, DTypeLike
from wconv.tensors.lazy import LazyTensor
from wconv.writing import file_formats
from wconv.writing.file_formats import FileFormat
from wconv.writing.plan import parse_size

if TYPE_CHECKING:
    from wconv.lora.read import Lora


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `prepare`, checked.

    Attributes:
        target: where the result goes; `given` tells whether the user said so.
        dtype: what floating tensors are cast to; None for their own.
        kind: the files that are written.
        limit: bytes of tensors in one file; None for what the consumer cuts at.
        loras: adapters to be merged, in order.
    """

    source: Path
    target: Path
    given: bool
    dtype: DType | None
    layout: str | Layout
    rules: str | os.PathLike[str] | Layout | None
    kind: FileFormat
    include: str | None
    exclude: str | None
    limit: int | None
    key: str | None
    expand: bool
    skip_unreadable: bool
    variant: str | None
    optimizer: bool
    loras: tuple[Lora, ...]
    options: Mapping[str, Any]

    @property
    def single(self) -> bool:
        """Whether the result is one file, with nothing beside it."""
        return file_formats.single(self.target.name) is not None

    def parameters(self) -> dict[str, Any]:
        """What decides the output's bytes beside the source, as plain data."""
        return {
            "dtype": self.dtype.name if self.dtype else None,
            "layout": str(self.layout),
            "format": self.kind.name,
            "include": self.include,
            "exclude": self.exclude,
            "key": self.key,
            "options": dict(self.options),
            "variant": self.variant,
            "merge_lora": [(str(one.path), one.strength) for one in self.loras],
        }

    def pick(self, opened: Checkpoint) -> tuple[dict[str, LazyTensor], dict[str, str]]:
        """The tensors that are wanted, and the reason for each that is not.

        Raises:
            WconvError: a filter is no regular expression.
        """
        if self.include is None and self.exclude is None:
            return dict(opened.tensors), {}
        wanted = _matching(self.include, "--include", (*opened, *opened.lost))
        unwanted = _matching(self.exclude, "--exclude", (*opened, *opened.lost))
        picked: dict[str, LazyTensor] = {}
        filtered: dict[str, str] = {}
        for name, tensor in (*opened.items(), *opened.lost.items()):
            if wanted is not None and name not in wanted:
                filtered[name] = f"not in --include {self.include}"
            elif unwanted is not None and name in unwanted:
                filtered[name] = f"in --exclude {self.exclude}"
            elif isinstance(tensor, LazyTensor):
                picked[name] = tensor
        return picked, filtered


def ask(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None,
    *,
    dtype: DTypeLike | None,
    layout: str | Layout,
    format: str | None,
    max_shard_size: int | str | None,
    optimizer: bool,
    **more: Any,
) -> Request:
    """A request out of the arguments of `prepare`, which describes them; `more` are taken as they are.

    Raises:
        WconvError: a parameter is wrong.
    """
    require_name(src, "the source")
    if dst is not None:
        require_name(dst, "the output", OutputError)
    if more["rules"] is not None and not isinstance(more["rules"], Layout):
        require_name(more["rules"], "the rules file")
    source = Path(src)
    kind = file_formats.choose(format, str(Path(dst)) if dst is not None else None)
    if kind.for_torch and layout == "auto" and more["rules"] is None:
        layout = HUB
    if dst is not None:
        target = Path(dst)
    else:
        target = outputs.default_output(
            source, registry.output_suffix(layout), kind.suffixes[0], directory=optimizer
        )
    return Request(
        source,
        target,
        dst is not None,
        _requested(dtype),
        layout,
        kind=kind,
        limit=None if max_shard_size is None else parse_size(str(max_shard_size)),
        optimizer=optimizer,
        **more,
    )


def _requested(dtype: DTypeLike | None) -> DType | None:
    if dtype is None:
        return None
    requested = dtypes.of(dtype)
    if requested.name not in TARGETS:
        raise WconvError(f"--dtype {requested.name}: weights are written in {', '.join(TARGETS)}")
    return requested


def _matching(text: str | None, option: str, names: Collection[str]) -> set[str] | None:
    """The names in which an expression is found; None where there is no expression."""
    if text is None:
        return None
    from wconv.layouts.name_filter import NameFilter

    return NameFilter(text, option).matching(names)
