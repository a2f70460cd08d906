"""What is known of a checkpoint as a whole, which programs load it, and how each of that is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import load_commands, registry
from wconv.consumers.consumer import Consumer
from wconv.errors import WconvError
from wconv.examine.doctor.config import fields_elsewhere
from wconv.quantized import described
from wconv.quantized.names import Recognised
from wconv.quantized.schemes import MLX
from wconv.wording import plural

How = Literal["read", "inferred", "unknown"]
"""How a statement is known: a file says so; it follows from what files say; or it is not."""

HOW = {"read": "read", "inferred": "inferred", "unknown": "not known"}


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that is known, or is not.

    Attributes:
        what: of what it is told, in a word or two.
        text: what is known.
        how: how.
        where: what says it, where something does.
    """

    what: str
    text: str
    how: How
    where: str = ""

    def line(self) -> str:
        """The statement as it is printed."""
        where = f" from {self.where}" if self.where else ""
        return f"{self.what}: {self.text} ({HOW[self.how]}{where})"

    def to_dict(self) -> dict[str, str]:
        """Its fields by name, for JSON."""
        return asdict(self)


State = Literal["as it is", "converted", "no", "unknown"]


@dataclass(frozen=True, slots=True)
class Loading:
    """Whether a version of a program loads a checkpoint.

    Attributes:
        state: "as it is", "converted" (once wconv has converted it), "no", or "unknown".
        text: the same as a clause, with the reason where it is not "as it is".
    """

    program: str
    version: str
    state: State
    text: str
    how: How = "inferred"

    def line(self) -> str:
        """The statement as it is printed."""
        return f"{self.program} {self.version}: {self.text} ({HOW[self.how]})"

    def to_dict(self) -> dict[str, str]:
        """Its fields by name, for JSON."""
        return asdict(self)


def statements(opened: Checkpoint, recognised: Recognised | None) -> Iterator[Statement]:
    """What is known of the whole, without reading a weight.

    Args:
        recognised: what `recognise` says of its tensors.
    """
    config = opened.description or {}
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type:
        yield Statement("model_type", f"{model_type[:80]}", "read", "config.json")
    else:
        yield _guessed_type(opened)
    promise = opened.metadata.get("format")
    if isinstance(promise, str):
        whose = {"mlx": "MLX's names and layouts", "pt": "the names and layouts of PyTorch's programs"}
        said = f": {whose[promise]}" if promise in whose else ""
        yield Statement("header", f"format {promise[:40]}{said}", "read", "the header")
    yield from _scheme(opened, recognised)
    yield from _ties(opened, config)


def _guessed_type(opened: Checkpoint) -> Statement:
    """The model type by names that are of one model alone."""
    from wconv.consumers.layout_choice import choose_layout

    table = choose_layout(registry.AUTO, {}, opened.tensors)
    if table is not None and table.model_types:
        return Statement("model_type", table.model_types[0], "inferred", "its tensors' names")
    return Statement("model_type", "no file says it", "unknown")


def _scheme(opened: Checkpoint, recognised: Recognised | None) -> Iterator[Statement]:
    few = in_few_bits(opened, recognised)
    if few is None:
        return
    if "why" in few:
        yield Statement("quantization", few["why"], "inferred", "its tensors' names")
        return
    said = load_commands.stored_quantization(opened.description or {}) is not None
    own = few["scheme"] == MLX.name and isinstance((opened.description or {}).get("quantization"), Mapping)
    count = plural(few.get("weights", 0), "weight")
    text = f"{few['title']}: {count} in few bits"
    if said or own:
        yield Statement("quantization", text, "read", "config.json")
    else:
        yield Statement("quantization", text, "inferred", "its tensors' names")


def _ties(opened: Checkpoint, config: Mapping[str, Any]) -> Iterator[Statement]:
    """Names that share their bytes, and what config.json says of the output layer."""
    for tie in opened.ties[:3]:
        yield Statement("tied", f"{', '.join(name[:100] for name in tie[:4])}", "read", "the file")
    if len(opened.ties) > 3:
        yield Statement("tied", f"and {plural(len(opened.ties) - 3, 'group')} more", "read", "the file")
    text = config.get("text_config")
    parts = (config, text if isinstance(text, Mapping) else {})
    tied = next((part["tie_word_embeddings"] for part in parts if "tie_word_embeddings" in part), None)
    if isinstance(tied, bool) and not opened.ties:
        what = "the output layer is the embedding" if tied else "the output layer is a matrix of its own"
        yield Statement("tied", what, "read", "config.json")


def in_few_bits(opened: Checkpoint, recognised: Recognised | None) -> dict[str, Any] | None:
    """The scheme of weights that are stored in few bits, and their count, or why they are not decoded.

    Settings that lie in tensors are read for it. None where all weights are plain.
    """
    from wconv.quantized.recognition import find_weights

    if recognised is None and not described.has_any(opened.tensors, opened.metadata):
        return None
    try:
        found = find_weights(opened.tensors, opened.description, opened.metadata)
    except WconvError as error:
        return {"why": str(error)}
    if found is None:
        return None
    return {"scheme": found.name, "title": found.title, "weights": len(found.weights)}


def loading(opened: Checkpoint, recognised: Recognised | None) -> Iterator[Loading]:
    """Which programs load it, of those whose models are known here; nothing without a model type."""
    config = opened.description or {}
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        return
    for consumer in load_commands.likeliest_first(config):
        if consumer.known_models is None:
            continue
        state, text = _state(opened, consumer, config, recognised)
        yield Loading(consumer.name, consumer.known_models().version, state, text)


def _state(
    opened: Checkpoint, consumer: Consumer, config: Mapping[str, Any], recognised: Recognised | None
) -> tuple[State, str]:
    model_type = str(config["model_type"])
    if not load_commands.knows(consumer, model_type):
        return "no", f"does not have {model_type[:80]}"
    plain = {name: value for name, value in config.items() if name != "quantization_config"}
    why = load_commands.doubt(consumer, plain)
    if why:
        return "unknown", why
    few = load_commands.doubt(consumer, config)
    scheme = recognised.scheme.name if recognised is not None else ""
    if few or (scheme and scheme not in consumer.schemes):
        what = str((load_commands.stored_quantization(config) or {}).get("quant_method") or scheme)
        decoded = in_few_bits(opened, recognised)
        if decoded is not None and "why" in decoded:
            return "no", f"does not take {what[:40]} weights, and they are not decoded: {decoded['why']}"
        return "converted", f"loads it once converted: it does not take {what[:40]} weights as they are"
    unread = _unread(opened, consumer) or _unread_fields(config)
    if unread:
        return "converted", f"loads it once converted: {unread}"
    return "as it is", "loads it as it is"


def _unread(opened: Checkpoint, consumer: Consumer) -> str:
    """Why a program does not read the weights files or what is in them; "" where it does."""
    if consumer.needs is not None:
        names = [file.name for file in opened.files]
        read = set(consumer.needs.reads(names))
        listed = consumer.needs.follows_index and len(names) > 1
        other = next((name for name in names if name not in read), None)
        if opened.format != "safetensors":
            return f"it reads safetensors, and this is {opened.format}"
        if other is not None and not listed:
            return f"it reads {' and '.join(consumer.needs.weights)}, and not {other[:100]}"
    if opened.path.is_file():
        return "it reads directories, and this is a file"
    unheld = {row.source for row in consumer.substitutes if row.why.startswith("mx.load refuses")}
    odd = next((tensor.dtype.name for tensor in opened.values() if tensor.dtype.name in unheld), None)
    return f"it does not read {odd}" if odd else ""


def _unread_fields(config: Mapping[str, Any]) -> str:
    """Which fields stand in config.json in a newer way than programs read; "" where none does."""
    added = fields_elsewhere(config)
    if not added:
        return ""
    more = f" and {len(added) - 2} more" if len(added) > 2 else ""
    return f"config.json says {', '.join(added[:2])}{more} in a newer way than it reads"
