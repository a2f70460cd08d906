"""Weights that are stored with scales of their own: the names that tell them, and the schemes they tell.

Nothing is decoded here. A tensor that belongs to such a weight means nothing without it, and the weight means
something else without the tensor: both stay together, with the bytes that they have, until they are decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wconv.dtypes import DType
from wconv.errors import WconvError


class Described(Protocol):
    """What is asked of a tensor: its dtype and its shape."""

    @property
    def dtype(self) -> DType: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of a weight that is stored in a scheme.

    Attributes:
        endings: how its name ends.
        weights: what the weight's name has in place of that; none where it is the weight itself.
        certain: whether the name alone tells it; else only a weight of few bits that is there too.
    """

    endings: tuple[str, ...]
    weights: tuple[str, ...] = (".weight",)
    certain: bool = False


def _part(endings: str, *weights: str) -> Part:
    return Part(tuple(endings.split()), weights)


def _certain(endings: str, *weights: str) -> Part:
    return Part(tuple(endings.split()), weights, certain=True)


STATE = ".quant_state."
"""bitsandbytes' settings of a weight: the kind follows."""

TELLING = (
    # GPTQ, AWQ, AutoRound; Nunchaku
    _certain(".qweight"),
    _certain(".qzeros .g_idx", ".qweight"),
    _part(".wscales .wzeros .wcscales .wtscale .smooth_factor .smooth_factor_orig", ".qweight"),
    # compressed-tensors
    _certain(".weight_packed"),
    _certain(".weight_shape .weight_g_idx", ".weight_packed", ".weight"),
    _part(".weight_scale .weight_zero_point", ".weight_packed", ".weight"),
    _certain(".weight_global_scale .input_global_scale", ".weight_packed", ".weight"),
    # ModelOpt, DeepSeek, ComfyUI and other programs' fp8
    _certain(".weight_scale_2 .scale_weight .comfy_quant", ".weight"),
    _certain("_scale_inv", ""),
    _certain("scaled_fp8"),
    _part(
        ".scale_input .input_scale .output_scale .activation_scale .pre_quant_scale",
        ".weight",
        ".weight_packed",
    ),
    _part(".input_zero_point .output_zero_point .input_scale_ub", ".weight", ".weight_packed"),
    *(_part(f".{one}_scale", f".{one}_proj.weight", f".{one}_proj.weight_packed") for one in "qkv"),
    # bitsandbytes
    _certain(".SCB .weight_format", ".weight"),
    _certain(f".absmax .quant_map .nested_absmax .nested_quant_map {STATE}", ""),
    # MXFP4 as gpt-oss has it
    _part("_blocks", "_scales"),
    _part("_scales", "_blocks"),
    # MLX
    _part(".scales .biases .global_scale", ".weight", ".qweight", ".codes"),
    # HQQ, AQLM, QuIP#, EETQ, Quanto
    _certain(".W_q .Qidxs .weight._data"),
    _part(".scale .zero .meta", ".W_q"),
    _part(".codebooks", ".codes"),
    _part(".weight_scales", ".weight"),
    _part(".weight._scale .weight._shift", ".weight._data"),
)
"""Spellings that nothing else has."""

PARTS = (
    *TELLING,
    _part(".scale", ".weight"),
    _part("_scale _scales _scale_2 _zero_point _activation_scale", ""),
)
"""All spellings; the first whose weight is there counts."""

ENDINGS = tuple(dict.fromkeys(ending for part in PARTS for ending in part.endings))


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way of storing weights in few bits.

    Attributes:
        name: for tables.
        title: for messages: "a GPTQ checkpoint".
        methods: `quant_method` in a config; "method:format" where that has several forms.
        signs: endings of names, one of which tells it where no config does.
    """

    name: str
    title: str
    methods: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()


AWQ = Scheme("awq", "an AWQ checkpoint", ("awq",))
GPTQ = Scheme("gptq", "a GPTQ checkpoint", ("gptq", "auto-round", "gptqmodel"), (".g_idx",))
NVFP4 = Scheme(
    "nvfp4",
    "an NVFP4 checkpoint",
    ("compressed-tensors:nvfp4-pack-quantized", "modelopt:NVFP4"),
    (".weight_global_scale",),
)
MXFP4 = Scheme(
    "mxfp4", "an MXFP4 checkpoint", ("mxfp4", "compressed-tensors:mxfp4-pack-quantized"), ("_blocks",)
)
MXFP8 = Scheme("mxfp8", "an MXFP8 checkpoint", ("mxfp8", "fp8:ue8m0", "modelopt:MXFP8"))
FP8_BLOCKS = Scheme("fp8-blocks", "an FP8 checkpoint with scales of blocks", ("fp8",), ("_scale_inv",))
FP8 = Scheme(
    "fp8",
    "an FP8 checkpoint",
    (
        "compressed-tensors:float-quantized",
        "compressed-tensors:naive-quantized",
        "modelopt:FP8",
        "fbgemm_fp8",
    ),
)
SCALED_FP8 = Scheme(
    "comfyui-fp8", "a scaled FP8 checkpoint of ComfyUI", (), ("scaled_fp8", ".scale_weight", ".comfy_quant")
)
INT4 = Scheme(
    "pack-quantized",
    "a compressed-tensors checkpoint (pack-quantized)",
    ("compressed-tensors:pack-quantized",),
    (".weight_packed",),
)
INT8 = Scheme("int8", "an INT8 checkpoint", ("compressed-tensors:int-quantized",))
BNB_4 = Scheme(
    "bitsandbytes-4bit",
    "a bitsandbytes checkpoint (4 bits)",
    ("bitsandbytes:4",),
    (STATE, ".absmax", ".quant_map"),
)
BNB_8 = Scheme(
    "bitsandbytes-8bit", "a bitsandbytes checkpoint (8 bits)", ("bitsandbytes:8", "bitsandbytes"), (".SCB",)
)
MODELOPT = Scheme("modelopt", "a ModelOpt checkpoint", ("modelopt",), (".weight_scale_2",))
COMPRESSED = Scheme("compressed-tensors", "a compressed-tensors checkpoint", ("compressed-tensors",))
NUNCHAKU = Scheme("svdquant", "an SVDQuant checkpoint (Nunchaku)", ("svdquant",), (".wscales", ".wtscale"))
MLX = Scheme("mlx", "a model that is quantized for MLX")
UNKNOWN = Scheme("unknown", "a checkpoint of weights that have scales of their own")

SCHEMES = (
    GPTQ,
    AWQ,
    NVFP4,
    MXFP4,
    MXFP8,
    NUNCHAKU,
    SCALED_FP8,
    BNB_4,
    BNB_8,
    INT4,
    MODELOPT,
    FP8_BLOCKS,
    FP8,
    INT8,
    COMPRESSED,
    Scheme("hqq", "an HQQ checkpoint", ("hqq",), (".W_q",)),
    Scheme("aqlm", "an AQLM checkpoint", ("aqlm",), (".codebooks",)),
    Scheme("quip", "a QuIP# checkpoint", ("quip",), (".Qidxs",)),
    Scheme("eetq", "an EETQ checkpoint", ("eetq",), (".weight_scales",)),
    Scheme("quanto", "a Quanto checkpoint", ("quanto",), (".weight._data",)),
    Scheme("vptq", "a VPTQ checkpoint", ("vptq",)),
    Scheme("spqr", "an SpQR checkpoint", ("spqr",)),
    Scheme("higgs", "a HIGGS checkpoint", ("higgs",)),
    Scheme("bitnet", "a BitNet checkpoint", ("bitnet",)),
    Scheme("torchao", "a torchao checkpoint", ("torchao",)),
    MLX,
    UNKNOWN,
)
"""Every scheme that is told by name."""

BY_METHOD = {method: scheme for scheme in SCHEMES for method in scheme.methods}


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a checkpoint's quantized weights are.

    Attributes:
        weights: the tensors that belong to weights in a scheme → the weight, or themselves where that is
            not there.
        example: one of them, for messages.
    """

    scheme: Scheme
    weights: Mapping[str, str]

    @property
    def members(self) -> frozenset[str]:
        """All names that must keep their bytes: the weights and what belongs to them."""
        return frozenset((*self.weights, *self.weights.values()))

    @property
    def example(self) -> str:
        return next(iter(self.weights))


def recognise(tensors: Mapping[str, Described], config: Mapping[str, Any] | None = None) -> Recognised | None:
    """The scheme in which some of a checkpoint's weights are stored; None where all are plain.

    Args:
        tensors: by name.
        config: config.json, whose `quantization_config` names the scheme.
    """
    weights: dict[str, str] = {}
    endings: set[str] = set()
    for name in _plausible(tensors):
        found = _part_of(name, tensors)
        if found is not None:
            weights[name] = found[0]
            endings.add(found[1])
    if not weights:
        return None
    return Recognised(_named(config) or _told(weights, endings, tensors), weights)


def check_complete(tensors: Mapping[str, Described], picked: Collection[str]) -> None:
    """Refuses to leave out what belongs to weights that are picked.

    Raises:
        WconvError: a filter does.
    """
    found = recognise(tensors)
    for name, weight in found.weights.items() if found else ():
        if name not in picked and weight in picked:
            raise WconvError(
                f"--include and --exclude leave out {name}, without which {weight} means nothing:"
                " leave out both or none"
            )


def is_part(name: str) -> bool:
    """Whether a name is spelled like what belongs to a weight in a scheme, and like nothing else."""
    return any(_ending(name, part) for part in TELLING)


def companions(name: str, names: Collection[str]) -> Iterator[str]:
    """Scales of a weight, by the plain spellings, that are among `names`."""
    stem = name.removesuffix(".weight")
    tried = (f"{name}_scale_inv", f"{name}_scale", f"{name}_scale_2", f"{name}_scales")
    dotted = ("scale", "scales", "scale_weight", "weight_scale", "weight_scale_inv", "comfy_quant", "SCB")
    yield from (
        one for one in (*tried, *(f"{stem}.{end}" for end in dotted), f"{stem}_scale") if one in names
    )


def config_of(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What config.json says of the quantization; empty where it says nothing."""
    for part in (config or {}, (config or {}).get("text_config")):
        found = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(found, Mapping):
            return found
    return {}


def _plausible(names: Iterable[str]) -> list[str]:
    """The names that end like a part's; most models have none."""
    ends = tuple(ending for ending in ENDINGS if ending != STATE)
    return [name for name in names if name.endswith(ends) or STATE in name]


def _part_of(name: str, tensors: Mapping[str, Described]) -> tuple[str, str] | None:
    """The weight that a tensor belongs to, or itself, and how its name ends; None where it is no part."""
    for part in PARTS:
        ending = _ending(name, part)
        if ending is None:
            continue
        stem = name.partition(STATE)[0] if ending == STATE else name.removesuffix(ending)
        weight = next((stem + end for end in part.weights if stem + end in tensors), None)
        if part.certain or (weight is not None and is_narrow(tensors[weight].dtype)):
            return weight or name, ending
    return None


def _ending(name: str, part: Part) -> str | None:
    return next((one for one in part.endings if name.endswith(one) or (one == STATE and one in name)), None)


def is_narrow(dtype: DType) -> bool:
    """Whether a dtype holds codes, or numbers of few bits, rather than weights as they are."""
    return dtype.kind == "int" or (dtype.is_floating and dtype.bits < 16)


def _named(config: Mapping[str, Any] | None) -> Scheme | None:
    """The scheme that the config names."""
    if isinstance((config or {}).get("quantization"), Mapping) and not config_of(config).get("quant_method"):
        return MLX
    said = config_of(config)
    inner = said.get("quantization")
    settings = inner if isinstance(inner, Mapping) else said
    method = str(said.get("quant_method") or ("modelopt" if "quant_algo" in settings else "")).lower()
    if method == "bitsandbytes":
        form = "4" if settings.get("load_in_4bit") or settings.get("_load_in_4bit") else "8"
    elif method == "fp8":
        form = "ue8m0" if list(settings.get("weight_block_size") or ()) == [32, 32] else ""
    else:
        form = str(settings.get("quant_algo") or settings.get("format") or "")
    if not method and settings.get("bits") and settings.get("group_size"):
        return MLX
    return BY_METHOD.get(f"{method}:{form}") or BY_METHOD.get(method)


def _told(
    weights: Mapping[str, str], endings: frozenset[str] | set[str], tensors: Mapping[str, Described]
) -> Scheme:
    """The scheme that names, dtypes and shapes tell."""
    scheme = next((one for one in SCHEMES if not endings.isdisjoint(one.signs)), None)
    if scheme is MODELOPT and any(tensors[weight].dtype.name == "uint8" for weight in weights.values()):
        return NVFP4
    if scheme is not None:
        return scheme
    codes = next((one for one in weights if one.endswith(".qweight")), None)
    if codes is not None:
        return _packed_on(tensors, codes)
    name, weight = next(iter(weights.items()))
    dtype = tensors[weight].dtype.name
    if name.endswith((".scales", ".biases", ".global_scale")) and dtype == "uint32":
        return MLX
    if dtype.startswith("float8"):
        return FP8
    return INT8 if dtype == "int8" else UNKNOWN


def _packed_on(tensors: Mapping[str, Described], codes: str) -> Scheme:
    """AWQ packs its words along the outputs, GPTQ along the inputs."""
    scales = tensors.get(codes.removesuffix("qweight") + "scales")
    shape = tensors[codes].shape
    if scales is None or len(shape) != 2 or len(scales.shape) != 2:
        return GPTQ
    return GPTQ if shape[1] == scales.shape[1] else AWQ
