"""What a conversion is asked for, checked and completed with what follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.locate import locate
from wconv.consumers import registry
from wconv.consumers.lay_out import HUB
from wconv.consumers.mlx.dtypes import TARGETS
from wconv.conversion import outputs
from wconv.errors import OutputError, WconvError, require_name
from wconv.layouts.apply import Layout
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType, DTypeLike
from wconv.writing import file_formats
from wconv.writing.file_formats import FileFormat
from wconv.writing.plan import parse_size

if TYPE_CHECKING:
    from wconv.conversion.options import ConvertOptions
    from wconv.lora.read import Lora


@dataclass(frozen=True, slots=True)
class Request:
    """A source, an output and options, checked; of a pipeline, one for each component.

    Attributes:
        target: where the result goes.
        target_given: whether the user said so.
        layout: that of the options, or what follows from the files that are written.
        dtype: what floating tensors are cast to; None for their own.
        file_format: of the files that are written.
        shard_bytes: of tensors in one file at most; None for what the consumer cuts at.
        variant: of the weights in the source.
        loras: adapters to be merged, in order.
        options: everything else that was asked for, as it was given.
        part: whether it is one component of a model of several.
    """

    source: Path
    target: Path
    target_given: bool
    layout: str | Layout
    dtype: DType | None
    file_format: FileFormat
    shard_bytes: int | None
    variant: str | None
    loras: tuple[Lora, ...]
    options: ConvertOptions
    part: bool = False

    @property
    def single(self) -> bool:
        """Whether the result is one file, with nothing beside it."""
        return file_formats.single(self.target.name) is not None

    def parameters(self) -> dict[str, Any]:
        """What decides the output's bytes beside the source, as plain data."""
        return {
            "dtype": self.dtype.name if self.dtype else None,
            "layout": str(self.layout),
            "format": self.file_format.name,
            "include": self.options.include,
            "exclude": self.options.exclude,
            "key": self.options.key,
            "config": None if self.options.config is None else str(self.options.config),
            "options": dict(self.options.options or {}),
            "variant": self.variant,
            "quantize": self.options.quantize.said() if self.options.quantize is not None else None,
            "dequantize": self.options.dequantize,
            "merge_lora": [(str(lora.path), lora.strength) for lora in self.loras],
        }


def make_request(
    src: str | os.PathLike[str], dst: str | os.PathLike[str] | None, options: ConvertOptions
) -> Request:
    """The request that the arguments of `prepare` make; adapters are opened.

    Raises:
        WconvError: an argument is wrong, or an adapter cannot be read.
    """
    loras = _read_loras(options)
    require_name(src, "the source")
    if dst is not None:
        require_name(dst, "the output", OutputError)
    if options.rules is not None and not isinstance(options.rules, Layout):
        require_name(options.rules, "the rules file")
    layout = options.layout
    file_format = file_formats.choose_format(options.format, str(Path(dst)) if dst is not None else None)
    if file_format.for_torch and layout == "auto" and options.rules is None:
        layout = HUB
    source = locate(src)
    if dst is not None:
        target = Path(dst)
    else:
        target = outputs.default_output(
            source,
            registry.output_suffix(layout),
            (*file_format.suffixes, "")[0],
            directory=options.optimizer or options.config is not None or not file_format.suffixes,
        )
    size = options.max_shard_size
    return Request(
        source=source,
        target=target,
        target_given=dst is not None,
        layout=layout,
        dtype=_requested(options.dtype),
        file_format=file_format,
        shard_bytes=None if size is None else parse_size(str(size)),
        variant=options.variant,
        loras=loras,
        options=options,
    )


def limit_bandwidth(size: str) -> None:
    """Lets this process fetch so many bytes a second at most, of all servers together: "10MB".

    Raises:
        WconvError: it is no size.
    """
    from wconv.stores import patience

    patience.limit(parse_size(size))


def _read_loras(options: ConvertOptions) -> tuple[Lora, ...]:
    if not options.merge_lora:
        return ()
    from wconv.lora import steps

    return steps.read_all(options.merge_lora)


def _requested(dtype: DTypeLike | None) -> DType | None:
    if dtype is None:
        return None
    requested = dtypes.of(dtype)
    if requested.name not in TARGETS:
        raise WconvError(f"--dtype {requested.name}: weights are written in {', '.join(TARGETS)}")
    return requested
