"""Adapters in every spelling become one thing: for each module a pair of matrices and a scale."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from wconv.checkpoints import open as opening
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers.adapters.modules import WRAPPERS, ModulePlace, place, respelled
from wconv.errors import FormatError, WconvError, require_name
from wconv.lora.kinds import LONGEST, LORA, kind_of, other_kind
from wconv.lora.scales import CONFIG, Scales, config_path
from wconv.tensors.lazy import LazyTensor
from wconv.wording import fitted, plural

_NAME = r"(?:\.(?!(?:weight|bias)$)\w+)?"
_ENDINGS = (
    ("down", rf"\.lora_A{_NAME}(?:\.weight)?"),
    ("up", rf"\.lora_B{_NAME}(?:\.weight)?"),
    ("down", r"(?:\.|_)lora(?:\.|_linear_layer\.|_)down(?:\.default)?(?:\.weight)?"),
    ("up", r"(?:\.|_)lora(?:\.|_linear_layer\.|_)up(?:\.default)?(?:\.weight)?"),
    ("down_transposed", r"\.lora_a"),
    ("up_transposed", r"\.lora_b"),
    ("embedding_down", rf"\.lora_embedding_A{_NAME}"),
    ("embedding_up", rf"\.lora_embedding_B{_NAME}"),
    ("alpha", r"\.alpha"),
    ("magnitude", rf"\.lora_magnitude_vector{_NAME}(?:\.weight)?"),
    ("magnitude", r"\.dora_scale"),
    ("magnitude", r"\.m"),
    ("diff", r"\.diff"),
    ("diff_b", r"\.diff_b"),
)
ENDINGS = tuple((slot, re.compile(rf"{ending}\Z")) for slot, ending in _ENDINGS)
"""How a tensor's name ends → what it is; PEFT, diffusers old and new, kohya, ComfyUI and mlx-lm."""

WHOLE = re.compile(r"(?:\.base_layer|\.modules_to_save(?:\.\w+)?)?\.(weight|bias)\Z")
"""How a tensor of PEFT's ends that takes the place of the model's."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What a file does to one module: `scale · up @ down` is added to its weight.

    Attributes:
        name: the module as the file calls it.
        place: what that means.
        up: (rows, rank); None when the file holds differences alone.
        down: (rank, …): more than two axes for a convolution.
        alpha: the file's; `scale` is `alpha / rank` where there is one.
        magnitude: of a weight-decomposed adapter: the length of each row.
        diffs: whole differences, of "weight" and "bias".
        keys: the tensors that it is made of.
        wholes: "weight" and "bias" that take the place of the model's own.
    """

    name: str
    place: ModulePlace
    up: LazyTensor | None
    down: LazyTensor | None
    scale: float
    magnitude: LazyTensor | None = None
    diffs: Mapping[str, LazyTensor] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    wholes: Mapping[str, LazyTensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Rows of the matrix down; 0 where there is none."""
        return self.down.shape[0] if self.down is not None else 0


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """All adapters of one file, and how strongly they are to be applied."""

    path: Path
    files: tuple[Path, ...]
    adapters: tuple[Adapter, ...]
    strength: float = 1.0

    def __repr__(self) -> str:
        return fitted(f"<Lora {self.path}: {plural(len(self.adapters), 'module')}, strength {self.strength}>")


def slot_of(key: str) -> tuple[str, str] | None:
    """Module and kind of a tensor of an adapter; None for any other name."""
    if len(key) > LONGEST:
        return None
    key = respelled(key)
    for slot, expression in ENDINGS:
        found = expression.search(key, 1)
        if found is not None:
            return _old_processor(key[: found.start()]), slot
    return None


def _old_processor(module: str) -> str:
    """diffusers once kept adapters in attention processors: `attn1.processor.to_q_lora`."""
    name = re.sub(r"\.processor\.(to_\w+)$", r".\1", module)
    return re.sub(r"\.to_out$", ".to_out.0", name) if name != module else module


def parse_argument(text: str) -> tuple[str, float]:
    """`file[:scale]`, apart.

    Raises:
        WconvError: the scale is no finite number.
    """
    path, colon, scale = text.rpartition(":")
    if not colon or not path or os.path.exists(text):
        return text, 1.0
    try:
        strength = float(scale)
    except ValueError:
        if os.path.exists(path):
            raise WconvError(f"--merge-lora {text}: {scale!r} is no number") from None
        return text, 1.0
    if not math.isfinite(strength):
        raise WconvError(f"--merge-lora {text}: the scale must be a finite number")
    return path, strength


def read(text: str) -> Lora:
    """Opens an adapter: a file, or PEFT's or mlx-lm's directory, with `:scale` after it if it is not 1.

    Raises:
        FormatError: it cannot be read, or holds something that is not a low-rank adapter; by name.
    """
    require_name(text, "--merge-lora")
    path, strength = parse_argument(text)
    opened = opening.open(path, skip_unreadable=True)
    return Lora(opened.path, files_of(opened), adapters(opened), strength)


def files_of(opened: Checkpoint) -> tuple[Path, ...]:
    """All files that an adapter is made of."""
    config = config_path(opened)
    return (*opened.files, *((config,) if config is not None else ()))


def adapters(opened: Checkpoint) -> tuple[Adapter, ...]:
    """The adapters of a checkpoint, each tensor accounted for.

    Raises:
        FormatError: a tensor is no part of a low-rank adapter, or a pair is not complete or does not fit.
    """
    scales = Scales(opened)
    _check_kind(scales)
    modules: dict[str, dict[str, tuple[str, LazyTensor]]] = {}
    wholes: dict[str, dict[str, tuple[str, LazyTensor]]] = {}
    for key, tensor in opened.items():
        found = slot_of(key)
        whole = _whole(key, scales) if found is None else None
        if found is None and whole is None:
            why = other_kind(key) or "is no matrix of a LoRA"
            raise FormatError(f"{opened.path}: {key} {why}: it cannot be applied as a LoRA")
        module, slot = found or whole or ("", "")
        slots = (modules if found else wholes).setdefault(module, {})
        if slot in slots:
            raise FormatError(f"{opened.path}: {slots[slot][0]} and {key} are the same matrix twice")
        slots[slot] = (key, tensor)
    if not modules:
        raise FormatError(f"{opened.path} holds no adapter")
    if opened.lost:
        key, reason = next(iter(opened.lost.items()))
        raise FormatError(f"{opened.path}: {key} cannot be read: {reason}")
    _check_config(opened, scales)
    found_adapters = tuple(_adapter(opened, module, slots, scales) for module, slots in modules.items())
    _check_lengths(opened, scales, found_adapters)
    return tuple(_with_wholes(found_adapters, wholes))


def _whole(key: str, scales: Scales) -> tuple[str, str] | None:
    """Module and kind of a tensor that takes the place of the model's: PEFT saves such modules beside."""
    found = WHOLE.search(key)
    if found is None or other_kind(key) is not None:
        return None
    if key.startswith(WRAPPERS) or "peft_type" in (scales.config or {}):
        return key[: found.start()], found[1]
    return None


def _with_wholes(
    found: tuple[Adapter, ...], wholes: Mapping[str, Mapping[str, tuple[str, LazyTensor]]]
) -> Iterator[Adapter]:
    """The adapters with the tensors that take the place of the model's; modules of these alone come last."""
    for one in found:
        own = wholes.get(one.name, {})
        keys = (*one.keys, *(key for key, _ in own.values()))
        yield replace(one, keys=keys, wholes={kind: tensor for kind, (_, tensor) in own.items()})
    names = {one.name for one in found}
    for module, own in wholes.items():
        if module not in names:
            tensors = {kind: tensor for kind, (_, tensor) in own.items()}
            keys = tuple(key for key, _ in own.values())
            yield Adapter(module, place(module), None, None, 1.0, keys=keys, wholes=tensors)


UNUSUAL = {
    "fan_in_fan_out": "its layers are stored transposed",
    "layer_replication": "it repeats layers",
    "megatron_config": "its layers are cut for several devices",
    "use_qalora": "its matrices see sums of inputs",
    "use_bdlora": "its matrices are blocks of a diagonal",
    "kasa_config": "singular values of its own stand between the matrices",
    "arrow_config": "it chooses among several adapters",
    "alora_invocation_tokens": "it begins where a text holds these tokens",
    "target_parameters": "it changes parameters, not layers",
}
"""Settings of PEFT that change what the matrices mean."""

RESIDUAL = ("pissa", "olora", "corda", "loftq")
"""Values of `init_lora_weights` with which PEFT changes the model's own weights when it loads the adapter.

Fact: PEFT 0.21.2, `tuners/lora/layer.py`: `pissa_init`, `olora_init`, `corda_init`, `loftq_init`.
"""


def _check_kind(scales: Scales) -> None:
    kind, path = kind_of(scales.config or {}), scales.config_path
    if kind == "full fine-tuning":
        raise FormatError(f"{path}: a full fine-tuning holds weights, not an adapter")
    if kind not in (None, LORA):
        raise FormatError(f"{path} describes a {kind!r} adapter: LoRA alone can be applied")


def _check_config(opened: Checkpoint, scales: Scales) -> None:
    config, path = scales.config or {}, scales.config_path
    for component, settings in (("", config), *scales.components.items()):
        where = f"{opened.path}: {component}" if settings is not config else str(path)
        for setting, meaning in UNUSUAL.items():
            if settings.get(setting):
                raise FormatError(f"{where} sets {setting}: {meaning}, which cannot be applied")
        start = str(settings.get("init_lora_weights", "")).lower()
        if start.startswith(RESIDUAL):
            raise FormatError(
                f"{where} sets init_lora_weights to {start!r:.40}: it belongs to weights that PEFT changes"
                " first; save it with path_initial_model_for_weight_conversion"
            )


def _check_lengths(opened: Checkpoint, scales: Scales, found: tuple[Adapter, ...]) -> None:
    """Refuses a DoRA without magnitudes: to its program each row keeps its length."""
    config = scales.config or {}
    if config.get("use_dora") or config.get("fine_tune_type") == "dora":
        for one in found:
            if one.magnitude is None and one.up is not None:
                reason = f"though {scales.config_path} tells of a DoRA"
                raise FormatError(f"{opened.path}: {one.name} has no magnitudes, {reason}")


def _adapter(
    opened: Checkpoint, module: str, slots: Mapping[str, tuple[str, LazyTensor]], scales: Scales
) -> Adapter:
    where = f"{opened.path}: {module}"
    found = {slot: tensor for slot, (_, tensor) in slots.items()}
    down, up = found.get("down"), found.get("up")
    if "down_transposed" in found or "up_transposed" in found:
        down, up = (_turned(found.get(slot), where) for slot in ("down_transposed", "up_transposed"))
    elif "embedding_down" in found or "embedding_up" in found:
        # an embedding is looked up by rows, so its adapter is the transpose of a linear layer's
        up, down = (_turned(found.get(slot), where) for slot in ("embedding_down", "embedding_up"))
    diffs = {kind: found[slot] for slot, kind in (("diff", "weight"), ("diff_b", "bias")) if slot in found}
    flat = next((kind for kind, tensor in diffs.items() if not tensor.ndim), None)
    if flat is not None:
        raise FormatError(f"{where}: a difference of a {flat} is a single number, not one for each row")
    if (up is None) != (down is None) or (up is None and not diffs):
        lacking = "up (lora_B)" if up is None else "down (lora_A)"
        raise FormatError(f"{where} has no {lacking} matrix")
    scale = 1.0
    if up is not None and down is not None:
        if min(up.ndim, down.ndim) < 2 or math.prod(up.shape[2:]) != 1:
            raise FormatError(f"{where}: {up.shape} and {down.shape} are no pair of matrices")
        if not (up.size and down.size):
            raise FormatError(f"{where}: {up.shape} and {down.shape} hold nothing")
        if up.shape[1] != down.shape[0]:
            raise FormatError(
                f"{where}: {up.shape} and {down.shape} have different ranks: grouped, or damaged"
            )
        up = up.reshape(up.shape[:2])
        if not (up.dtype.is_floating and down.dtype.is_floating):
            raise FormatError(f"{where} is stored in {up.dtype.name}: only floating matrices can be applied")
        if "down_transposed" in found and not scales.is_mlx_lm:
            raise FormatError(
                f"{opened.path}: no {CONFIG} beside it has lora_parameters, with mlx-lm's scale"
            )
        scale = scales.of(module, found.get("alpha"), up.shape[1])
    magnitude = found.get("magnitude")
    if magnitude is not None and up is not None:
        if magnitude.shape[:1] != up.shape[:1] or magnitude.size != up.shape[0]:
            raise FormatError(
                f"{where}: the DoRA's magnitudes {magnitude.shape} are not one for each of {up.shape[0]} rows"
            )
        magnitude = magnitude.reshape((-1,))
    # a matrix first: messages name one key
    keys = tuple(key for slot, (key, _) in sorted(slots.items(), key=lambda item: item[0] == "alpha"))
    return Adapter(module, place(module), up, down, scale, magnitude, diffs, keys)


def _turned(tensor: LazyTensor | None, where: str) -> LazyTensor | None:
    if tensor is not None and tensor.ndim != 2:
        raise FormatError(f"{where}: {tensor.shape} is no matrix")
    return tensor.transpose((1, 0)) if tensor is not None else None
