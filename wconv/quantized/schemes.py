"""How weights with scales of their own are spelled, and the schemes that the spellings tell: two tables."""

from __future__ import annotations

from dataclasses import dataclass


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
    # torchao
    _certain("_qdata"),
    _part(
        "_scale _zero_point _act_pre_scale _act_quant_scale _act_quant_zero_point _per_tensor_scale"
        " _act_per_tensor_scale",
        "_qdata",
    ),
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
    _part("_scale _scales _scale_2 _zero_point _activation_scale _input_scale", ""),
    _part("_weight_scale _weight_scale_2", ""),
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
GPTQ = Scheme(
    "gptq", "a GPTQ checkpoint", ("gptq", "auto-round", "intel/auto-round", "gptqmodel"), (".g_idx",)
)
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
COMFY_QUANT = Scheme("comfy-quant", "a checkpoint of ComfyUI (comfy_quant)", (), (".comfy_quant",))
SCALED_FP8 = Scheme("comfyui-fp8", "a scaled FP8 checkpoint of ComfyUI", (), ("scaled_fp8", ".scale_weight"))
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
    COMFY_QUANT,
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
    Scheme("torchao", "a torchao checkpoint", ("torchao",), ("_qdata",)),
    MLX,
    UNKNOWN,
)
"""Every scheme that is told by name."""

BY_METHOD = {method: scheme for scheme in SCHEMES for method in scheme.methods}
