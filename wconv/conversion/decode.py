"""Quantized sources on their way to a layout: left as they are, kept in MLX's own form, or decoded.

A source stays as it is where its consumer takes it. What would be refused, and what `--dequantize` asks for,
is decoded here: then every layout takes it, and a cast, an adapter or a quantization anew may follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import registry
from wconv.consumers.consumer import FP8_BLOCKS
from wconv.consumers.lay_out import AS_STORED, HUB, lay_out
from wconv.consumers.mlx.dtypes import TARGETS
from wconv.conversion.output_dtypes import written_dtypes
from wconv.errors import LayoutError, WconvError
from wconv.layouts.apply import matches
from wconv.quantized import described as quantized_described
from wconv.quantized import names as quantized_names
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor

if TYPE_CHECKING:
    from wconv.conversion.request import Request
    from wconv.quantized.stored import Dense

TWICE = "the source is quantized already: quantizing its decoded values anew loses a second time"

Picked = tuple[Checkpoint, dict[str, LazyTensor], dict[str, str], DType | None]


def decoded(
    request: Request, opened: Checkpoint, picked: dict[str, LazyTensor], left: dict[str, str]
) -> Picked:
    """The checkpoint, its picked tensors and what is left out of it, as they are to be laid out, and the
    dtype to which all is cast (None: each its own).

    Args:
        left: what is left out already, with the reason.

    Raises:
        FormatError: a weight is damaged, or in a scheme that is not decoded.
    """
    said = quantized_names.recognise(picked, opened.description)
    dense_needed = request.options.dequantize or request.options.quantize is not None
    in_parts = quantized_described.has_any(picked, opened.metadata)
    if said is None and not in_parts:
        if request.options.dequantize and not request.part:
            from wconv.quantized import recognition

            recognition.find_weights(
                picked, opened.description, opened.metadata
            )  # names codes without scales
            raise nothing_to_decode(request)
        if request.options.dequantize:
            opened = replace(opened, metadata=_without_level(opened.metadata))
        if quantized_names.config_of(opened.description):
            from wconv.quantized import recognition

            recognition.check_codes_have_scales(picked, opened.description)
        return _said_truly(request, opened), picked, left, request.dtype
    loose = in_parts and quantized_described.is_loose(opened.metadata)
    as_stored = said is not None and said.scheme.name == "mlx"
    if as_stored and request.loras and not dense_needed:
        raise WconvError(
            f"{request.source} is quantized for MLX, and adapters are merged into dense weights: add -d"
            " (dequantize=True) for a dense model, or -q (quantize=…) to quantize the merged one anew"
        )
    if not (dense_needed or loose):
        taken = "" if as_stored else _taken_by(request, opened, picked)
        if taken and said is not None:
            whose = f"the weights of {said.scheme.title} stay as they are"
            note = f"{whose}: {taken} loads them so (-d makes them dense)"
            opened = replace(opened, notes=(*opened.notes, note))
        if taken is not None:
            if not as_stored and request.layout != HUB:
                from wconv.quantized import recognition

                recognition.check_complete(picked, opened.description, opened.metadata)
            return opened, picked, left, request.dtype
    from wconv.quantized import recognition

    to = request.dtype
    if as_stored and request.options.dequantize:
        to = to or _dtype_of(opened.config)
        picked = _with_scales_in(to, picked)
    scheme = recognition.find_weights(picked, opened.description, opened.metadata)
    if scheme is None:
        return opened, picked, left, request.dtype
    dense = scheme.decode(picked)
    tensors = dense.tensors
    if to is None and not as_stored:
        tensors = {
            name: _in_sixteen_bits(tensor, opened.config) if name in dense.sources else tensor
            for name, tensor in tensors.items()
        }
    if not (dense_needed or request.dtype or request.loras) and may_stay_packed(request):
        from wconv.quantized.packed import marked

        tensors, dense = marked(tensors, scheme), replace(dense, notes=scheme.notes)
    described = _described(opened, dense)
    if request.options.quantize is not None:
        described = replace(described, notes=(*described.notes, TWICE))
    return described, tensors, {**left, **dense.dropped}, to


def _said_truly(request: Request, opened: Checkpoint) -> Checkpoint:
    """The checkpoint without a scheme that config.json tells of and no weight is in: programs believe it."""
    said = (opened.config or {}).get("quantization_config")
    method = said.get("quant_method") if isinstance(said, Mapping) else None
    if not isinstance(method, str) or not method or not all(map(_is_plain, opened.tensors.values())):
        return opened
    if may_stay_packed(request):
        opened = replace(
            opened,
            config={
                key: value for key, value in (opened.config or {}).items() if key != "quantization_config"
            },
            quantization=None,
        )
        note = (
            f"config.json said quant_method {method:.40}, and no weight is stored so: it says that no longer"
        )
    else:
        note = f"config.json says quant_method {method:.40}, and no weight is stored so"
    return replace(opened, notes=(*opened.notes, note))


def _is_plain(tensor: LazyTensor) -> bool:
    """Whether a tensor cannot hold codes."""
    return tensor.ndim < 2 or (tensor.dtype.is_floating and tensor.dtype.bits >= 16)


def _without_level(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a header says, but for the bits of a whole model of which this part was dense before."""
    return {name: value for name, value in metadata.items() if name != quantized_names.LEVEL}


def nothing_to_decode(request: Request) -> WconvError:
    """The error for `-d` of a model that is dense."""
    return WconvError(f"{request.source} holds no weights in few bits: leave -d (dequantize) out")


def _dtype_of(config: Mapping[str, Any] | None) -> DType | None:
    """The dtype to which the converters of mlx-lm and mlx-vlm cast a model unless they are told another."""
    inner = (config or {}).get("text_config")
    said = (config or {}).get("torch_dtype") or (inner.get("dtype") if isinstance(inner, Mapping) else None)
    return dtypes.BY_NAME[said] if isinstance(said, str) and said in TARGETS else None


def _with_scales_in(dtype: DType | None, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The tensors with MLX's scales and biases in the dtype that is to be written.

    mlx-lm and mlx-vlm cast them first and dequantize then, which rounds otherwise than the other way round.
    """
    if dtype is None:
        return tensors
    return {
        name: tensor.cast(dtype)
        if name.endswith(SCALES) and tensor.dtype.is_floating and tensor.dtype is not dtype
        else tensor
        for name, tensor in tensors.items()
    }


SCALES = (".scales", ".biases")


def may_stay_packed(request: Request) -> bool:
    """Whether what is written can hold weights in few bits that programs of MLX's load."""
    return request.layout not in (HUB, AS_STORED) and not request.file_format.for_torch


def _taken_by(request: Request, opened: Checkpoint, picked: Mapping[str, LazyTensor]) -> str | None:
    """The consumer that loads the tensors as they are; "" where they stay so for no known one, or where
    the rules of its layout decode them.

    Returns:
        None where no layout takes them so, or the dtype that is asked for is not theirs.
    """
    if request.loras:
        return None
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
        return None
    if request.layout == HUB or (laid.consumer is None and request.dtype is None):
        return ""
    left = laid.applied.tensors
    if laid.table is not None:
        left = {name: tensor for name, tensor in left.items() if not matches(laid.table.names, name)}
    if _is_left(laid.consumer, left, opened.description):
        return None
    still = quantized_names.recognise(laid.applied.tensors)
    return laid.consumer if laid.consumer and still is not None else ""


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
    beside = [opened.path / name for name in SETTINGS_FILES] if opened.path.is_dir() else []
    described = {
        "tensor_names",
        "_quantization_metadata",
        quantized_names.LEVEL,
        *(name for name in dense.sources),
    }
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


def sources(made: Mapping[str, tuple[str, ...]], opened: Checkpoint) -> dict[str, tuple[str, ...]]:
    """What each output is made of, by the names of the file."""
    if not opened.made_of:
        return made if isinstance(made, dict) else dict(made)
    return {
        name: tuple(part for one in parts for part in opened.made_of.get(one, (one,)))
        for name, parts in made.items()
    }
