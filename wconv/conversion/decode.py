"""Quantized sources on their way to a layout: left as they are, kept in MLX's own form, or decoded.

A source stays as it is where its consumer takes it. What would be refused, and what `--dequantize` asks for,
is decoded here: then every layout takes it, and a cast, an adapter or a quantization anew may follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import registry
from wconv.consumers.consumer import FP8_BLOCKS
from wconv.consumers.lay_out import HUB, lay_out
from wconv.conversion.output_dtypes import written_dtypes
from wconv.errors import LayoutError, WconvError
from wconv.layouts.apply import matches
from wconv.quantized import described as quantized_described
from wconv.quantized import names as quantized_names
from wconv.tensors.lazy import LazyTensor

if TYPE_CHECKING:
    from wconv.conversion.request import Request
    from wconv.quantized.stored import Dense, StoredWeights
    from wconv.tensors.quantize import Quantization

TWICE = "the source is quantized already: quantizing its decoded values anew loses a second time"

Picked = tuple[Checkpoint, dict[str, LazyTensor], dict[str, str]]


def decoded(
    request: Request, opened: Checkpoint, picked: dict[str, LazyTensor], left: dict[str, str]
) -> Picked:
    """The checkpoint, its picked tensors and what is left out of it, as they are to be laid out.

    Args:
        left: what is left out already, with the reason.

    Raises:
        FormatError: a weight is damaged, or in a scheme that is not decoded.
    """
    said = quantized_names.recognise(picked, opened.description)
    dense_needed = request.options.dequantize or request.options.quantize is not None
    in_parts = quantized_described.has_any(picked, opened.metadata)
    if said is None and not in_parts:
        if request.options.dequantize:
            raise WconvError(f"{request.source} holds no weights in few bits: leave -d (dequantize) out")
        return opened, picked, left
    as_stored = said is not None and said.scheme.name == "mlx"
    loose = in_parts and quantized_described.is_loose(opened.metadata)
    if not (dense_needed or loose) and (as_stored or not _is_refused(request, opened, picked)):
        return opened, picked, left
    from wconv.quantized import recognition

    scheme = recognition.find_weights(picked, opened.description, opened.metadata)
    if scheme is None:
        return opened, picked, left
    dense = _kept(request, opened, picked, scheme) or scheme.decode(picked, opened.config)
    tensors = dense.tensors
    if request.dtype is None:
        made = dense.sources.keys() - dense.kept.keys()
        tensors = {
            name: _in_sixteen_bits(tensor, opened.config) if name in made else tensor
            for name, tensor in tensors.items()
        }
    described = _described(opened, dense)
    if request.options.quantize is not None:
        described = replace(described, notes=(*described.notes, TWICE))
    return described, tensors, {**left, **dense.dropped}


def _is_refused(request: Request, opened: Checkpoint, picked: Mapping[str, LazyTensor]) -> bool:
    """Whether no layout takes the tensors as they are, or the dtype that is asked for is not theirs."""
    if request.loras:
        return True
    try:
        laid = lay_out(
            request.layout,
            picked,
            opened.description,
            rules=request.options.rules,
            types=opened.modules,
            options=request.options.options or {},
        )
        for _ in written_dtypes(
            laid.applied.tensors, request.dtype, laid.applied.keep_dtype, casts=laid.casts
        ):
            pass
    except LayoutError:
        return True
    if request.layout == HUB or (laid.consumer is None and request.dtype is None):
        return False
    left = laid.applied.tensors
    if laid.table is not None:
        left = {name: tensor for name, tensor in left.items() if not matches(laid.table.names, name)}
    return _is_left(laid.consumer, left, opened.description)


def _is_left(
    consumer: str | None, tensors: Mapping[str, LazyTensor], config: Mapping[str, Any] | None
) -> bool:
    """Whether there are weights in a form that the consumer's loader does not decode.

    Args:
        tensors: those whose names the rules do not tell.
    """
    found = registry.find_consumer(consumer) if consumer is not None else None
    settings = quantized_names.config_of(config)
    rows = found.undecoded if found is not None else (FP8_BLOCKS,)
    ends = tuple(end for row in rows if row.holds(settings) for end in row.ends)
    if ends and any(name.endswith(ends) for name in tensors):
        return True
    codes = next((name for name in tensors if name.endswith(".qweight")), None)
    return codes is not None and not _is_gemm(codes, tensors)


def _is_gemm(codes: str, tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether AWQ's words hold eight outputs each, in groups that MLX has."""
    weight, scales = tensors[codes], tensors.get(codes.replace(".qweight", ".scales"))
    if scales is None or weight.ndim != 2 or scales.ndim != 2 or not scales.shape[0]:
        return False
    groups = weight.shape[0] / scales.shape[0]
    return weight.shape[1] * 8 == scales.shape[1] and groups in (32, 64, 128)


def _kept(
    request: Request, opened: Checkpoint, picked: Mapping[str, LazyTensor], scheme: StoredWeights
) -> Dense | None:
    """Weights in MLX's own forms, where those hold every value and a layout takes them."""
    own = (
        request.options.dequantize
        or request.options.quantize is not None
        or request.dtype is not None
        or request.loras
        or request.file_format.for_torch
    )
    if own or request.layout == HUB:
        return None
    made = scheme.repack(picked, opened.config)
    if not made.kept:
        return None
    try:
        laid = lay_out(
            request.layout,
            made.tensors,
            _config(opened.description, made.kept),
            rules=request.options.rules,
            options=request.options.options or {},
        )
    except LayoutError:
        return None
    consumer = registry.find_consumer(laid.consumer) if laid.consumer is not None else None
    return made if consumer is not None and consumer.reads_layer_settings else None


def _in_sixteen_bits(tensor: LazyTensor, config: Mapping[str, Any] | None) -> LazyTensor:
    """What a library computes in float32 in the dtype of the model, rounded once."""
    if tensor.dtype.name != "float32":
        return tensor
    for part in (config or {}, (config or {}).get("text_config")):
        said = (part.get("torch_dtype") or part.get("dtype")) if isinstance(part, Mapping) else None
        if said in ("float16", "bfloat16", "float32"):
            return tensor.cast(str(said))
    return tensor.cast("bfloat16")


def _described(opened: Checkpoint, dense: Dense) -> Checkpoint:
    """The checkpoint with what is said of it made true."""
    from wconv.quantized.stored import SETTINGS_FILES

    config = None
    if opened.config is not None:
        config = {name: value for name, value in opened.config.items() if name not in STALE}
        inner = config.get("text_config")
        if isinstance(inner, Mapping):
            config["text_config"] = {name: value for name, value in inner.items() if name not in STALE}
        config |= _config(None, dense.kept)
    beside = [opened.path / name for name in SETTINGS_FILES] if opened.path.is_dir() else []
    described = {"tensor_names", "_quantization_metadata", *(name for name in dense.sources)}
    return replace(
        opened,
        config=config,
        quantization=None,
        files=(*opened.files, *(path for path in beside if path.is_file())),
        metadata={name: value for name, value in opened.metadata.items() if name not in described},
        notes=(*opened.notes, *dense.notes),
        made_of=dense.sources,
    )


STALE = ("quantization_config", "quantization", "compression_config", "quantized_as")
"""What a config says of weights that are no longer quantized so."""


def _config(config: Mapping[str, Any] | None, kept: Mapping[str, Quantization]) -> dict[str, Any]:
    """What config.json says of weights in MLX's form: how most are; the others show it by their shapes."""
    found = {name: value for name, value in (config or {}).items() if name not in STALE}
    if kept:
        how, _ = Counter(kept.values()).most_common(1)[0]
        found["quantization"] = {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}
    return found


def sources(made: Mapping[str, tuple[str, ...]], opened: Checkpoint) -> dict[str, tuple[str, ...]]:
    """What each output is made of, by the names of the file."""
    if not opened.made_of:
        return made if isinstance(made, dict) else dict(made)
    return {
        name: tuple(part for one in parts for part in opened.made_of.get(one, (one,)))
        for name, parts in made.items()
    }
