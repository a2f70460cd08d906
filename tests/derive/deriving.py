"""One model type from its sources to its table, or to the reason why there is none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.derive import induce, names, plain_rules, sources, variants
from tests.derive.besides import left_out
from tests.derive.induction import Traced
from tests.derive.names import UnlikeError, keep_numbers
from tests.derive.programs import Program
from tests.derive.settings import conditions, embedding_of, tie_field
from tests.derive.sources import Source
from tests.derive.trace import EXACT, STEP, Origin, UntraceableError, traced
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, apply
from wconv.layouts.conditions import Setting, When
from wconv.layouts.file.primitives import check as check_rule
from wconv.layouts.inverse import restore
from wconv.layouts.rules import DropRule, Rule
from wconv.tensors.lazy import from_array

PLACE = re.compile(r"\s*\(?(?<![\w.])/[\w./-]+\)?")
"""Where something lies on this machine."""

COMMANDS = {
    "mlx-lm": "mlx_lm.generate --model {model} --prompt 'Hello'",
    "mlx-vlm": "mlx_vlm.generate --model {model} --prompt 'Hello'",
}
OTHER_NUMBERS: Mapping[str, Any] = {
    "num_experts": 10,
    "num_local_experts": 10,
    "n_routed_experts": 10,
    "moe_num_experts": 10,
    "qk_nope_head_dim": 18,
    "qk_head_dim": 26,
    "v_head_dim": 14,
    "kv_lora_rank": 22,
    "num_attention_heads": 8,
}
"""A second config, by which fields are told from literal numbers."""


class NotRestoredError(Exception):
    """The rules do what the program does, and cannot be undone."""


@dataclass
class Derived:
    """What came of a model type.

    Attributes:
        kind: "derived", "nothing to do" where names and shapes pass as they are, or "not possible".
        why: for what is not possible, the reason.
        layout: the table.
        source: the checkpoint that it was derived from.
    """

    model_type: str
    kind: str
    why: str = ""
    layout: Layout | None = None
    source: Source | None = None
    notes: list[str] = field(default_factory=list)


def derive(prog: Program, model_type: str, by_hand: bool = False) -> Derived:
    """The table for one model type.

    Args:
        by_hand: a person wrote one: where the program computes, it is that one which is compared.
    """
    found: list[Derived] = []
    for make in sources.makers(model_type):
        try:
            source = make(prog, model_type, {})
        except (Exception, SystemExit) as error:
            found.append(Derived(model_type, "not possible", f"no tiny model: {_said(error)}"))
            continue
        names.LITERAL.clear()
        try:
            return _retried(prog, model_type, make, source)
        except UntraceableError as reason:
            found.append(Derived(model_type, "not possible", str(reason), source=source))
            if by_hand and "computed" in str(reason):
                break
        except (LayoutError, ValueError, KeyError, IndexError, TypeError) as error:
            found.append(Derived(model_type, "not possible", f"{_said(error)}", source=source))
    best = max(found, key=lambda one: one.source is not None)
    best.why = "; or ".join(dict.fromkeys(one.why for one in found))
    return best


def _retried(prog: Program, model_type: str, make: Any, source: Source) -> Derived:
    """With numbers kept in names where tensors that differ in them are not treated alike."""
    for _ in range(12):
        try:
            return _derived(prog, model_type, make, source)
        except UnlikeError as error:
            if not keep_numbers(error.pattern):
                raise UntraceableError(str(error)) from None
    raise UntraceableError("too many numbers in names mean too many things")


def _said(error: BaseException) -> str:
    said = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {PLACE.sub('', said)}"[:160]


def _derived(prog: Program, model_type: str, make: Any, source: Source) -> Derived:
    trace = trace_of(source)
    traces = [trace]
    try:
        other = trace_of(make(prog, model_type, OTHER_NUMBERS))
        if other.shapes.keys() != trace.shapes.keys() or other.shapes != trace.shapes:
            traces.append(other)
    except (Exception, SystemExit):
        pass
    where = conditions(prog, model_type, source)
    ties, all_names = _ties(prog, model_type, make, source, trace)
    besides, more_names = left_out(source), variants.names(prog, model_type, source)
    keep = plain_rules.keeping(list(trace.final), source.model.casts)
    best: Layout | None = None
    for whole in (False, True):
        rules = induce.rules(traces, whole=whole)
        gone = [one for one in (*ties, *rules) if isinstance(one, DropRule)]
        more = [one for one in besides if not any(other.pattern.match(_sample(one)) for other in gone)]
        layout = Layout(
            (prog.name,),
            (model_type,),
            plain_rules.known_names([*trace.final, *all_names, *more_names], {**trace.owners, **more_names}),
            (*ties, *more, *rules, *keep),
            command=COMMANDS.get(prog.name) or prog.command(model_type),
            where=where,
        )
        for rule in layout.rules:
            check_rule(rule)
        try:
            check(layout, source, trace)
        except NotRestoredError:
            best = best or layout
            continue
        best = layout
        break
    assert best is not None
    layout = best
    return Derived(model_type, "derived" if layout.rules else "nothing to do", "", layout, source)


def _sample(rule: Rule) -> str:
    return rule.source.replace("**", "x").replace("#", "9")


def trace_of(source: Source) -> Traced:
    """A source traced, and found to be what the program loads.

    Raises:
        UntraceableError: it is not, or something is computed.
    """
    made = source.model
    origins = traced(source.shapes, made.exact)
    final = made.now()
    if not origins:
        raise UntraceableError("sanitize leaves nothing of a checkpoint")
    missing, extra = final.keys() - origins.keys(), origins.keys() - final.keys()
    if missing or extra:
        first = min(missing or extra)
        what = "lacks" if missing else "does not know"
        raise UntraceableError(f"the program {what} {first} ({len(missing)} missing, {len(extra)} too many)")
    for name, origin in origins.items():
        if isinstance(origin, str):
            raise UntraceableError(f"{name}: {origin}")
    good: dict[str, Origin] = {name: one for name, one in origins.items() if isinstance(one, Origin)}
    return Traced(source.shapes, good, final, made.owners, source.config)


def _ties(
    prog: Program, model_type: str, make: Any, source: Source, trace: Traced
) -> tuple[list[Rule], list[str]]:
    """The output layer left out where it is the embedding; the names that the program has, tied or not."""
    heads = {name: origin for name, origin in trace.origins.items() if name.endswith("lm_head.weight")}
    try:
        tied = make(prog, model_type, {"tie_word_embeddings": True})
        untied = make(prog, model_type, {"tie_word_embeddings": False})
    except (Exception, SystemExit):
        return [], []
    both = set(tied.model.parameters), set(untied.model.parameters)
    with contextlib.suppress(UntraceableError):
        heads = {**trace_of(untied).origins, **heads}
    rules: list[Rule] = []
    for name in sorted(both[1] - both[0]):
        origin = heads.get(name)
        if isinstance(origin, Origin) and len(origin.sources) == 1 and name.endswith((".weight", ".bias")):
            default = prog.tied_by_default(model_type)
            rules.append(
                DropRule(
                    origin.sources[0],
                    "tied to the embedding",
                    same_as=embedding_of(source) if origin.sources[0].endswith(".weight") else (),
                    when=When(Setting(tie_field(prog, model_type, source), default)),
                )
            )
    return rules, sorted(both[0] | both[1])


def check(layout: Layout, source: Source, trace: Traced) -> None:
    """The rules give, element by element, what sanitize gave, and undo it.

    Raises:
        UntraceableError: they do not give it.
        NotRestoredError: they do not undo it.
    """
    start = 0
    tensors = {}
    for name, shape in source.shapes.items():
        size = int(np.prod(shape, dtype=np.int64))
        tags = (np.arange(start, start + size) % EXACT + 1) * STEP
        tensors[name] = from_array(tags.reshape(shape).astype(np.float32))
        start += size
    import mlx.core as mx

    expected = source.model.exact({name: mx.array(tensor.numpy()) for name, tensor in tensors.items()})
    for name, array in expected.items():
        if tuple(array.shape) != trace.final[name]:
            raise UntraceableError(
                f"the program wants {name} as {trace.final[name]}, not {tuple(array.shape)}"
            )
    try:
        repeated = source.model.exact(dict(expected))
    except Exception as error:
        said = f"the program's sanitize does not take its own result: {_said(error)}"
        raise UntraceableError(said) from None
    if repeated.keys() != expected.keys():
        name = min(repeated.keys() ^ expected.keys())
        raise UntraceableError(
            f"the program's sanitize does not leave its own result alone: {name} comes of it"
        )
    applied = apply(layout, tensors, source.config)
    if applied.tensors.keys() != expected.keys():
        differing = min(applied.tensors.keys() ^ expected.keys())
        raise UntraceableError(f"the rules do not account for {differing}")
    for name, array in expected.items():
        got = applied.tensors[name].numpy()
        if got.shape != array.shape or not np.array_equal(got, np.array(array.astype(mx.float32))):
            raise UntraceableError(f"the rules do not make {name} as sanitize does")
    again = apply(layout, applied.tensors, source.config)
    for name, tensor in applied.tensors.items():
        if name not in again.tensors or not np.array_equal(again.tensors[name].numpy(), tensor.numpy()):
            raise UntraceableError(
                f"nothing tells a converted checkpoint from another: {name} would be changed twice"
            )
    try:
        restored = restore(layout, applied.tensors, source.config)
    except LayoutError as error:
        raise NotRestoredError(str(error)) from None
    for name, tensor in (restored.tensors if restored else applied.tensors).items():
        if name not in tensors or not np.array_equal(tensor.numpy(), tensors[name].numpy()):
            raise NotRestoredError(name)
