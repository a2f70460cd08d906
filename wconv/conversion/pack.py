"""The stage that keeps weights in few bits: in MLX's own form where that holds every value, else dense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wconv.consumers import registry
from wconv.consumers.quantization.choice import refused_layers
from wconv.quantized.packed import packed_form, stored_values, unmarked
from wconv.quantized.stored import MlxForm
from wconv.tensors.quantize import Quantization
from wconv.wording import plural
from wconv.writing.plan import Entry

FEW = 3
"""Reasons that are told before the rest are counted."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What the stage made.

    Attributes:
        entries: of the plan: codes, scales and biases in the place of the weights that are kept.
        dense: those of them that are no parts of such weights.
        sources: new names → the name of the weight that they belong to.
        config: what goes into config.json.
        notes: which form was taken of what, and what was decoded, and why.
    """

    entries: list[Entry]
    dense: list[Entry]
    sources: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def keep_packed(
    entries: Sequence[Entry], consumer: str | None, config: Mapping[str, Any] | None
) -> Packed | None:
    """Puts codes, scales and biases in the place of weights whose values these hold.

    Args:
        entries: the dense plan; what is made of stored weights carries their marks.
        consumer: for whom they are laid out.
        config: what the written config.json is made of; None where there is none to tell of the forms.

    Returns:
        None where nothing carries a mark.

    Raises:
        FormatError: a part of a weight that is looked at here is damaged.
    """
    found = {entry.name: values for entry in entries if (values := stored_values(entry.tensor)) is not None}
    if not found:
        return None
    if consumer is None or not _reads_settings(consumer) or config is None:
        told: dict[str, MlxForm | str] = dict.fromkeys(found, _why_none(consumer))
    else:
        told = _forms(entries, found, consumer, config)
    made: list[Entry] = []
    dense: list[Entry] = []
    sources: dict[str, str] = {}
    for entry in entries:
        form = told.get(entry.name)
        if not isinstance(form, MlxForm):
            dense.append(entry if form is None else replace(entry, tensor=unmarked(entry.tensor)))
            made.append(dense[-1])
            continue
        path = entry.name.removesuffix(".weight")
        for end, part in (("weight", form.weight), ("scales", form.scales), ("biases", form.biases)):
            if part is not None:
                made.append(Entry(f"{path}.{end}", part, part.dtype))
                sources[f"{path}.{end}"] = entry.name
    kept = {name: form.how for name, form in told.items() if isinstance(form, MlxForm)}
    decoded = {name: form for name, form in told.items() if isinstance(form, str)}
    title = next(iter(found.values())).title
    return Packed(made, dense, sources, _settings(kept), tuple(_notes(kept, decoded, title)))


def _reads_settings(name: str) -> bool:
    """Whether a consumer takes MLX's forms weight by weight, as config.json says."""
    consumer = registry.find_consumer(name)
    return consumer is not None and consumer.reads_layer_settings


def _why_none(consumer: str | None) -> str:
    if consumer is not None and _reads_settings(consumer):
        return "without a config.json beside them nothing tells how they are packed"
    return f"{consumer} takes none packed" if consumer else "which program loads them is not known"


def _forms(
    entries: Sequence[Entry], found: Mapping[str, Any], consumer: str, config: Mapping[str, Any]
) -> dict[str, MlxForm | str]:
    """The form of each weight, or why it becomes dense."""
    shapes = {entry.name: (entry.shape, entry.dtype.name) for entry in entries}
    refused = refused_layers(consumer, str(config.get("model_type", "")), config, shapes)
    return {
        entry.name: refused.get(entry.name) or packed_form(entry.tensor)
        for entry in entries
        if entry.name in found
    }


def _settings(kept: Mapping[str, Quantization]) -> dict[str, Any]:
    """What config.json says: how most are packed, and of each that is packed otherwise how that is."""
    if not kept:
        return {}
    most, _ = Counter(kept.values()).most_common(1)[0]
    written: dict[str, Any] = _entry(most)
    for name, how in kept.items():
        if how != most:
            written[name.removesuffix(".weight")] = _entry(how)
    return {"quantization": written, "quantization_config": written}


def _entry(how: Quantization) -> dict[str, Any]:
    return {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}


def _notes(kept: Mapping[str, Quantization], decoded: Mapping[str, str], title: str) -> Iterator[str]:
    """Which form was taken of what, and what was decoded, and why: a few sentences."""
    if kept:
        forms = Counter(map(_said, kept.values())).most_common()
        counts = [f"{form} ({count:,})" if len(forms) > 1 else form for form, count in forms[:FEW]]
        more = f" and {len(forms) - FEW} more forms" if len(forms) > FEW else ""
        verb = "are" if len(kept) > 1 else "is"
        yield (
            f"{plural(len(kept), 'weight')} of {title} {verb} kept as MLX's {' and '.join(counts)}{more},"
            f" which {'hold' if len(forms) > 1 else 'holds'} every value"
        )
    reasons: dict[str, list[str]] = {}
    for name, why in decoded.items():
        reasons.setdefault(why, []).append(name)
    for why, names in sorted(reasons.items(), key=lambda pair: -len(pair[1]))[:FEW]:
        whose = names[0] if kept or len(reasons) > 1 else ""
        others = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        which = f" ({whose}{others})" if whose else ""
        verb = "are" if len(names) > 1 else "is"
        yield f"{plural(len(names), 'weight')} of {title} {verb} decoded{which}: {why}"
    if len(reasons) > FEW:
        rest = len(decoded) - sum(sorted(map(len, reasons.values()), reverse=True)[:FEW])
        yield f"{plural(rest, 'more weight')} decoded for other reasons"


def _said(how: Quantization) -> str:
    return f"affine of {how.bits} bits in groups of {how.group_size}" if how.has_biases else how.mode
