"""Schemes that are not decoded: the names that tell them, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wconv.errors import FormatError
from wconv.quantized.stored import Tensors

ADVICE = "take the model in 16 bits, or copy this one unchanged with --layout hf and without --dtype"


@dataclass(frozen=True, slots=True)
class Refused:
    """A scheme that is known and not decoded.

    Attributes:
        signs: endings of names that nothing else has.
        methods: `quant_method`, or the format, in a config.
        why: what its weights are.
    """

    title: str
    signs: tuple[str, ...]
    methods: tuple[str, ...]
    why: str


REFUSED = (
    Refused("an HQQ checkpoint", (".W_q",), ("hqq",), "whose packing only HQQ knows"),
    Refused("an AQLM checkpoint", (".codebooks",), ("aqlm",), "whose weights are sums of codebooks' rows"),
    Refused("a QuIP# checkpoint", (".Qidxs",), ("quip",), "whose weights are rotated lattice points"),
    Refused(
        "an EXL2 checkpoint", (".q_weight", ".q_invperm", ".q_scale_max"), ("exl2",), "made for one kernel"
    ),
    Refused("an EXL3 checkpoint", (".trellis", ".suh", ".svh"), ("exl3",), "whose weights are trellis-coded"),
    Refused("an EETQ checkpoint", (".weight_scales",), ("eetq",), "ordered for a GPU's kernel"),
    Refused(
        "an FP-Quant checkpoint",
        (".dqweight", ".forward_hadamard_matrix"),
        ("fp_quant",),
        "whose weights are rotated",
    ),
    Refused(
        "a SINQ checkpoint",
        (".W_q",),
        ("sinq",),
        "whose weights have scales of rows and of columns in its packing",
    ),
    Refused(
        "a ParoQuant checkpoint", (".channel_scales", ".theta"), ("paroquant",), "whose weights are rotated"
    ),
    Refused("a QQQ checkpoint", (".s_channel", ".s_group"), ("qqq",), "made for one kernel"),
    Refused("a checkpoint in Marlin's order", (".workspace",), ("marlin",), "made for one kernel"),
    Refused(
        "a checkpoint quantized for Metal by transformers", (".qbiases",), ("metal",), "made for one kernel"
    ),
    Refused(
        "a VPTQ checkpoint",
        (".centroids", ".centroids.weight"),
        ("vptq",),
        "whose weights are vectors of codebooks",
    ),
    Refused("a Quanto checkpoint", (".weight._data",), ("quanto",), "whose packing only Quanto knows"),
    Refused(
        "an SVDQuant checkpoint (Nunchaku)", (".wscales", ".wtscale"), ("svdquant",), "made for one kernel"
    ),
    Refused(
        "ModelOpt's SVDQuant",
        (".svdquant_lora_a", ".svdquant_lora_b"),
        ("NVFP4_SVD",),
        "with a part of low rank beside each weight",
    ),
    Refused("an SpQR checkpoint", (".dense_weights", ".row_offsets"), ("spqr",), "whose outliers lie apart"),
    Refused("a HIGGS checkpoint", (".tables2",), ("higgs",), "whose weights are rotated"),
    Refused(
        "a sparse compressed-tensors checkpoint",
        (".bitmask", ".compressed", ".scale_packed"),
        ("sparse-bitmask", "sparse-24-bitmask", "marlin-24"),
        "a form that compressed-tensors itself has given up",
    ),
)


TRANSFORMS = ("transform_config", "rotation_config", "spinquant_config")
"""Settings that say that weights are transformed, and what goes into their layers with them."""


def check(tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Refuses what is stored in a scheme that is not decoded.

    Raises:
        FormatError: naming the scheme, a tensor, and what to do.
    """
    ends = tuple(sign for one in REFUSED for sign in one.signs)
    found = next((name for name in tensors if name.endswith(ends)), None)
    if found is not None:
        rows = [one for one in REFUSED if found.endswith(one.signs)]
        said = told_by(settings)
        one = said if said in rows and said is not None else rows[0]
        raise FormatError(f"{found} shows {one.title}, {one.why}: it is not decoded; {ADVICE}")
    for name, tensor in tensors.items():
        if tensor.dtype.name == "int32" and name.endswith(".weight") and f"{name}_scale" in tensors:
            raise FormatError(f"{name} is int32 with scales, as Quark packs integers: not decoded; {ADVICE}")


def check_transforms(settings: Mapping[str, Any]) -> None:
    """Refuses weights that are rotated or otherwise transformed: dense they would be other weights.

    Raises:
        FormatError: naming the setting.
    """
    for key in TRANSFORMS:
        said = settings.get(key)
        if said and (not isinstance(said, Mapping) or any(said.values())):
            raise FormatError(
                f"the config's {key} says that the weights are transformed (rotated by Hadamard matrices or"
                f" the like): they are not decoded; {ADVICE}"
            )


def told_by(settings: Mapping[str, Any]) -> Refused | None:
    """The scheme that a config names, where that is one of these."""
    said = {str(settings.get(key) or "") for key in ("quant_method", "format")}
    return next((one for one in REFUSED if said & set(one.methods)), None)
