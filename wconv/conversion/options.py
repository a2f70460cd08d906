"""The arguments of a conversion, described once: for `prepare`, `convert`, `load_mlx` and the command."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from wconv.errors import WconvError
from wconv.old_names import with_new_names
from wconv.wording import fitted

if TYPE_CHECKING:
    from wconv.consumers.quantization.recipes import Quantize
    from wconv.layouts.apply import Layout
    from wconv.lora.read import Lora
    from wconv.tensors.dtypes import DTypeLike

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """What a conversion may be asked for, beside its source and its output: the arguments of `prepare`.

    Attributes:
        dtype: "float16", "bfloat16" or "float32" for all floating tensors, however it is named ("fp16",
            `np.float16`, `mx.float16`); the source's own when absent.
        layout: "auto", a consumer's name, a Layout, or "hf" for the hub's names and layouts, to which an
            MLX model is laid back.
        rules: a rules file or a Layout instead of the tables; with the layout "hf" it is undone.
        format: "safetensors", "pt" or "dcp" (a directory that torch.distributed.checkpoint loads); what the
            name of the output tells when absent, else safetensors. torch files have the hub's names and
            layouts unless a layout or rules are given.
        include, exclude: regular expressions searched in the source's tensor names.
        max_shard_size: bytes of tensors in one file, or "5GB", "500MB"; when absent, what the consumer cuts
            at, and 5 GB where it does not care.
        key: the path to the state dict in a wrapped PyTorch checkpoint ("model.encoder").
        config: a directory with config.json and tokenizer, in place of those beside the weights.
        allow_inflation: allows tensors that take far more than their file (expanded views, sparse, deflated).
        skip_unreadable: leaves out tensors whose values cannot be had, which are an error otherwise.
        component: names of the only components that are converted, of a directory that has several.
        variant: of the weights in a directory, those called so ("fp16" for `model.fp16.safetensors`).
        optimizer: writes the optimizer's state too, as `optimizer.safetensors` beside the model.
        merge_lora: adapters that are added to the weights, in order: paths, each with `:scale` after it
            where that is not 1.
        quantize: stores weights in few bits, as MLX does: `wconv.Quantize(bits=4)`, with a mode, groups,
            a mixed recipe and rules for single layers.
        dequantize: decodes weights in few bits, also those that the consumer takes as they are.
        options: what the layout lets one choose, by name: {"include_fov": True}. One that it does not have
            is an error.

    Example:
        >>> wconv.ConvertOptions(dtype="float16").layout
        'auto'
    """

    dtype: DTypeLike | None = None
    layout: str | Layout = "auto"
    rules: str | os.PathLike[str] | Layout | None = None
    format: str | None = None
    include: str | None = None
    exclude: str | None = None
    max_shard_size: int | str | None = None
    key: str | None = None
    config: str | os.PathLike[str] | None = None
    allow_inflation: bool = False
    skip_unreadable: bool = False
    component: Sequence[str] = ()
    variant: str | None = None
    optimizer: bool = False
    merge_lora: Sequence[str | Lora] = ()
    quantize: Quantize | None = None
    dequantize: bool = False
    options: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        values = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        said = ", ".join(f"{name}={value!r:.200}" for name, value, default in values if value != default)
        return fitted(f"<ConvertOptions {said}>" if said else "<ConvertOptions>")


class SourceArguments(TypedDict, total=False):
    """The fields of `ConvertOptions` that mean something where arrays are made, and no files."""

    dtype: DTypeLike | None
    rules: str | os.PathLike[str] | Layout | None
    include: str | None
    exclude: str | None
    key: str | None
    config: str | os.PathLike[str] | None
    allow_inflation: bool
    skip_unreadable: bool
    component: Sequence[str]
    variant: str | None
    merge_lora: Sequence[str | Lora]
    quantize: Quantize | None
    dequantize: bool
    options: Mapping[str, Any] | None
    expand: bool


class ConvertArguments(SourceArguments, total=False):
    """The fields of `ConvertOptions` as keyword arguments, for type checkers; old names are among them."""

    layout: str | Layout
    format: str | None
    max_shard_size: int | str | None
    optimizer: bool


def options_of(
    function: str, arguments: Mapping[str, Any], takes: type = ConvertArguments, **more: Any
) -> ConvertOptions:
    """The options that a call's keyword arguments make.

    Args:
        function: the caller's name, for errors.
        arguments: the keyword arguments.
        takes: the TypedDict of those that the function has.
        more: fields of `ConvertOptions` that are not among them.

    Raises:
        TypeError: the function has no such argument.
    """
    named = with_new_names(function, arguments, stacklevel=4)
    unknown = next((name for name in named if name not in takes.__annotations__), None)
    if unknown is not None:
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown!r}")
    return ConvertOptions(**named, **more)


def takes_options(arguments: type) -> Callable[[Function], Function]:
    """Makes `help` show `**options: Unpack[arguments]` of a function as the arguments that they are."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in fields(ConvertOptions)
        if field.name in arguments.__annotations__
    ]

    def with_signature(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        first = next((at for at, one in enumerate(own) if one.kind is keyword), len(own))
        shown = signature.replace(parameters=[*own[:first], *more, *own[first:]])
        function.__signature__ = shown  # type: ignore[attr-defined]
        return function

    return with_signature


def check_layout_options(options: Mapping[str, Any], offered: Mapping[str, Any], model: str) -> None:
    """Refuses options that a layout does not have, and values of another kind than its own.

    Args:
        options: what the caller asks for.
        offered: the layout's options, each with its default.
        model: what has been converted, and for whom, for the message.

    Raises:
        WconvError: one is unknown, which names those there are; or has such a value.
    """
    for name, value in options.items():
        if name not in offered:
            there = f"it has {', '.join(sorted(offered))}" if offered else "it has none"
            raise WconvError(f"the layout of {model} has no option {name!r:.80}: {there}")
        default = offered[name]
        if isinstance(default, bool):
            if value not in (True, False):
                raise WconvError(f"the option {name} is true or false, not {value!r:.80}")
        elif default is not None and not isinstance(value, type(default)):
            raise WconvError(f"the option {name} is of {type(default).__name__}, not {value!r:.80}")
