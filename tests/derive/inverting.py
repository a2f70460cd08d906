"""A program's own names turned back into those that its sanitize takes, as far as trying finds them.

A change is kept when sanitize still makes exactly the program's parameters of the result.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.derive.programs import Program
from tests.derive.sources import Shape, Source
from tests.derive.trace import LARGEST

Shapes = dict[str, Shape]

W123 = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
FUSED = (
    (
        ("gate_proj", "up_proj"),
        ("gate_up_proj", "gate_and_up_proj", "in_proj", "fc1", "dense_h_to_4h", "up_gate_proj"),
    ),
    (
        ("q_proj", "k_proj", "v_proj"),
        ("qkv_proj", "query_key_value", "qkv", "Wqkv", "c_attn", "in_proj", "wqkv", "W_pack"),
    ),
    (("w1", "w3"), ("w13", "gate_up_proj")),
)


def inverted(prog: Program, model_type: str, source: Source) -> Source:
    """The source with every change that sanitize undoes."""
    current, done = dict(source.shapes), list[str]()
    if elements(current) >= LARGEST:
        return source
    takes, seen = _taker(source), {frozenset(current.items())}
    for _ in range(2):
        for label, change in _changes(prog, model_type, source):
            try:
                new = change(current)
            except (ValueError, IndexError):
                continue
            if label in done or _reversed(label) in done or frozenset(new.items()) in seen:
                continue
            seen.add(frozenset(new.items()))
            if takes(new):
                current = new
                done.append(label)
    return replace(source, shapes=current, inverted=tuple(done))


def _reversed(label: str) -> str:
    """The label of the change that would undo this one."""
    name, _, where = label.partition(", at the start")
    new, back, old = name.partition(" back to ")
    return f"{old} back to {new}{where}" if back else ""


def _taker(source: Source) -> Callable[[Shapes], bool]:
    """Whether sanitize makes the program's parameters of tensors with these shapes."""
    import mlx.core as mx

    def takes(shapes: Shapes) -> bool:
        try:
            got = source.model.sanitize({name: mx.zeros(shape) for name, shape in shapes.items()})
        except Exception:
            return False
        return {name: tuple(array.shape) for name, array in got.items()} == source.model.parameters

    return takes


def _changes(
    prog: Program, model_type: str, source: Source
) -> Iterator[tuple[str, Callable[[Shapes], Shapes]]]:
    code = _code(prog, model_type)
    for old, new in _pairs(code):
        yield f"{new} back to {old}", _replacing(new, old)
        yield f"{new} back to {old}, at the start", _starting(new, old)
    for stacked in ("switch_mlp", "switch_glu", "experts"):
        for names in ({}, W123):
            for parent in ("experts", "local_experts"):
                yield f"{stacked} apart into {parent} {bool(names)}", _apart(stacked, parent, names)
                for inner in ("mlp", "block_sparse_moe", "moe", "feed_forward"):
                    yield (
                        f"{stacked} apart into {inner}.{parent} {bool(names)}",
                        _apart(stacked, f"{parent}", names, inner),
                    )
    for parts, wholes in FUSED:
        for whole in wholes:
            yield f"{', '.join(parts)} in {whole}", _fusing(parts, whole)
    yield "kv_b_proj", _kv_b
    for kind in ("ConvTranspose", "Conv"):
        yield f"{kind} as torch has it", _convolutions(source, kind)
    for name in sorted({name for name, shape in source.shapes.items() if len(shape) in (3, 4, 5)}):
        leaf = ".".join(part for part in name.split(".") if not part.isdigit())
        yield f"{leaf} as torch has it", _one_convolution(source, leaf)


def _code(prog: Program, model_type: str) -> str:
    """The text of every sanitize that is called."""
    texts = []
    module = prog.module(model_type)
    for name in dir(module):
        cls = getattr(module, name)
        if inspect.isclass(cls) and hasattr(cls, "sanitize"):
            for base in cls.__mro__:
                if "sanitize" in vars(base):
                    try:
                        texts.append(inspect.getsource(inspect.getmodule(base) or base))
                    except (OSError, TypeError):
                        continue
    return "\n".join(dict.fromkeys(texts))


PAIR = re.compile(r"""["']([\w.{}]*)["']\s*[,:]\s*f?["']([\w.{}]*)["']""")
REPLACE = re.compile(r"""replace\(\s*f?["']([\w.]*)["'],\s*f?["']([\w.]*)["']""")
SUB = re.compile(r"""sub\(\s*r?["']\^?([\w.\\]*)["'],\s*r?["']([\w.]*)["']""")
PREFIX = re.compile(r"""startswith\(\(?\s*["']([\w.]+)["']""")


def _pairs(code: str) -> list[tuple[str, str]]:
    found = [*REPLACE.findall(code), *PAIR.findall(code)]
    found += [(old.replace("\\", ""), new) for old, new in SUB.findall(code)]
    found += _near(code)
    prefixes = list(dict.fromkeys(PREFIX.findall(code)))
    found += [(one, "") for one in prefixes]
    usual = [
        ("", "language_model."),
        ("model.", "language_model.model."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("model.visual.", "vision_tower."),
        ("visual.", "vision_tower."),
        ("model.vision_tower.", "vision_tower."),
        ("transformer.", "model."),
        ("model.", "language_model."),
        ("model.", ""),
    ]
    return [
        pair
        for pair in dict.fromkeys([*found[:320], *usual])
        if pair[0] != pair[1] and "{" not in "".join(pair)
    ]


LITERALS = re.compile(r"""f?["']([\w.{}]*)["']""")


def _near(code: str) -> list[tuple[str, str]]:
    """Ends of names that stand within three lines of each other: one may become the other."""
    lines = [[text.rpartition("}")[2] for text in LITERALS.findall(line)] for line in code.splitlines()]
    kept = [[text for text in line if "." in text and len(text) > 3] for line in lines]
    found = []
    for at, line in enumerate(kept):
        around = [text for near in kept[max(at - 2, 0) : at + 3] for text in near]
        found += [(old, new) for new in line for old in around if old != new]
    return list(dict.fromkeys(found))[:200]


def _replacing(new: str, old: str) -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        if not new or len(new) < 2:
            return shapes
        return _unique(
            {name.replace(new, old, 1) if new in name else name: shape for name, shape in shapes.items()},
            shapes,
        )

    return change


def _starting(new: str, old: str) -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        return _unique(
            {
                old + name.removeprefix(new) if name.startswith(new) else name: shape
                for name, shape in shapes.items()
            },
            shapes,
        )

    return change


def _unique(new: Shapes, before: Shapes) -> Shapes:
    return new if len(new) == len(before) else before


def _apart(stacked: str, parent: str, names: dict[str, str], inner: str = "") -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        after: Shapes = {}
        for name, shape in shapes.items():
            parts = name.split(".")
            if stacked not in parts or len(shape) < 2 or parts[-1] not in ("weight", "bias"):
                after[name] = shape
                continue
            at = parts.index(stacked)
            end = [names.get(part, part) for part in parts[at + 1 :]]
            start = [*parts[: at - 1], inner] if inner else parts[:at]
            for number in range(shape[0]):
                after[".".join([*start, parent, str(number), *end])] = shape[1:]
        return after

    return change


def _fusing(parts: tuple[str, ...], whole: str) -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        after = dict(shapes)
        for name in shapes:
            pieces = name.split(".")
            if parts[0] not in pieces:
                continue
            names = [name.replace(parts[0], part) for part in parts]
            if all(one in after for one in names):
                found = [after.pop(one) for one in names]
                axis = -2 if len(found[0]) > 1 else -1
                shape = list(found[0])
                shape[axis] = sum(one[axis] for one in found)
                after[name.replace(parts[0], whole)] = tuple(shape)
        return after

    return change


def _kv_b(shapes: Shapes) -> Shapes:
    after = dict(shapes)
    for name in shapes:
        if name.endswith("embed_q.weight") and not name.endswith("unembed_q.weight"):
            other = name.replace("embed_q", "unembed_out")
            heads, rank, nope = after.pop(name)
            _, value, _ = after.pop(other)
            after[name.replace("embed_q", "kv_b_proj")] = (heads * (nope + value), rank)
    return after


def _convolutions(source: Source, kind: str) -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        return {
            name: _torch_order(shape, kind)
            if _is(source, name, kind) and source.shapes.get(name) == shape
            else shape
            for name, shape in shapes.items()
        }

    return change


def _is(source: Source, name: str, kind: str) -> bool:
    owner = source.model.owners.get(name, "")
    return kind in owner and name.endswith("weight") and ("Transpose" in owner) is ("Transpose" in kind)


def _torch_order(shape: Shape, kind: str) -> Shape:
    if len(shape) < 3:
        return shape
    if "Transpose" in kind:
        return (shape[-1], shape[0], *shape[1:-1])
    return (shape[0], shape[-1], *shape[1:-1])


def _one_convolution(source: Source, leaf: str) -> Callable[[Shapes], Shapes]:
    def change(shapes: Shapes) -> Shapes:
        return {
            name: _torch_order(shape, "Conv")
            if source.shapes.get(name) == shape
            and ".".join(part for part in name.split(".") if not part.isdigit()) == leaf
            else shape
            for name, shape in shapes.items()
        }

    return change


def elements(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())
