"""Small pickles that ask for a great deal of time or memory."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.hostile.assemble import Code, by_global, call, get, pickled, push, push_int, put, storage, tensor
from tests.hostile.case import Case, inert, refused
from tests.hostile.containers import VALUES, WEIGHTS, state_dict, torch_zip

DEPTH = 30_000
DOUBLINGS = 60
CROWD = 30_000


def _doubled(start: bytes, twice: bytes) -> Code:
    """A value, then `DOUBLINGS` times a container of the last one; `twice` says `AA` for two of it."""
    code = put(Code(start), 0)
    for level in range(DOUBLINGS):
        last = get(level)
        code = Code(code + b"0" + put(Code(twice.replace(b"AA", last + last)), 1 + level))
    return code


def _doubled_names(empty: bytes) -> Code:
    """Dicts in which two names stand for the same dict, one within the other."""
    code = put(Code(empty), 0)
    for level in range(DOUBLINGS):
        last = get(level)
        pairs = push("a") + last + push("b") + last
        code = Code(code + b"0" + put(Code(empty + b"(" + pairs + b"u"), 1 + level))
    return code


def _doubled_frozensets(index: int = 0) -> Code:
    """Frozensets {x, {x}}: hashed at once, but 2^n to print or to compare."""
    code = put(Code(b"(" + push("x") + b"\x91"), index)
    for level in range(DOUBLINGS):
        last = get(index + level)
        code = Code(code + b"0" + put(Code(b"(" + last + b"(" + last + b"\x91\x91"), index + 1 + level))
    return code


def doublings() -> dict[str, Code]:
    """The billion laughs: n small containers that are 2^n values when written out."""
    pair = by_global("mine", "Pair")
    return {
        "tuples": _doubled(b")", b"AA\x86"),
        "lists": _doubled(b"]", b"](AAe"),
        "lists-of-text": _doubled(push("lol"), b"](AAe"),
        "lists-of-tensors": _doubled(tensor(), b"](AAe"),
        "dicts": _doubled_names(b"}"),
        "ordered-dicts": _doubled_names(call("collections", "OrderedDict")),
        "records": _doubled(b"N", pair + b"AA\x86R"),
        "states": _doubled(b"N", pair + b")\x81AA\x86b"),
        "frozensets": _doubled_frozensets(),
    }


def _deep() -> dict[str, Code]:
    """Values nested `DEPTH` deep."""
    record = by_global("mine", "Box")
    return {
        "lists": Code(b"]" * DEPTH + b"a" * (DEPTH - 1)),
        "tuples": Code(b")" + b"\x85" * DEPTH),
        "dicts": Code((b"}" + push("k")) * DEPTH + b"N" + b"s" * DEPTH),
        "marks": Code(b"(" * DEPTH + b"t" * DEPTH),
        "records": Code(record * DEPTH + b")" + b"R\x85" * (DEPTH - 1) + b"R"),
        "states": Code((record + b")\x81") * DEPTH + b"N" + b"b" * DEPTH),
        "frozensets": Code(b"(" * DEPTH + b"\x91" * DEPTH),
    }


def _pairs_of_one_hash(candidates: int) -> Iterator[tuple[int, int]]:
    """Pairs (a, b) for which CPython's hash of tuples (xxHash: three multiplications) ends at one number,
    when b is what the second member hashes to."""
    by_lane, by_step, start, size = 14029467366897019727, 11400714785074694791, 2870177450012600261, 2**64
    back, goal = pow(by_lane, -1, size), 123_456_789 * pow(by_step, -1, size) % size
    first = np.arange(1, candidates, dtype=np.uint64)
    halfway = _turned(first * np.uint64(by_lane) + np.uint64(start), 31) * np.uint64(by_step)
    second = (_turned(np.full(1, goal, np.uint64), 33) - halfway) * np.uint64(back)
    fits = second < sys.hash_info.modulus  # above, no number has this hash
    return zip(first[fits].tolist(), second[fits].tolist(), strict=True)


def _turned(values: NDArray[np.uint64], by: int) -> NDArray[np.uint64]:
    return values << np.uint64(by) | values >> np.uint64(64 - by)


@functools.cache
def _tuples_of_one_hash() -> tuple[Code, ...]:
    return tuple(push(pair) for pair in itertools.islice(_pairs_of_one_hash(10 * CROWD), CROWD))


def _floats_of_one_hash() -> Iterator[Code]:
    """The same of an integer and a float: 2^-k has the hash 2^(61 - k), so that most hashes are a float's."""
    bits = sys.hash_info.modulus.bit_length()
    for first, number in _pairs_of_one_hash(4_000_000):
        lowest = number & -number
        if lowest and number // lowest < 2**53:
            yield push((first, float(number // lowest) * 2.0 ** (lowest.bit_length() - 1 - bits)))


def _crowded(keys: Iterable[bytes]) -> Code:
    return Code(b"}(" + b"".join(key + b"N" for key in keys) + b"u")


def _crowds() -> dict[str, Code]:
    """Keys of one hash, of which a dict takes quadratic time."""
    tuples = b"".join(_tuples_of_one_hash())
    complexes = (call("builtins", "complex", 1000003.0 * n, float(-n)) for n in range(2, CROWD // 3))
    ordered = call("collections", "OrderedDict", [(pair, None) for pair in _tuples_of_one_hash()])
    return {
        "tuples": _crowded(_tuples_of_one_hash()),
        "tuples-in-set": Code(b"\x8f(" + tuples + b"\x90"),
        "tuples-in-frozenset": Code(b"(" + tuples + b"\x91"),
        "tuples-in-ordered-dict": ordered,
        "tuples-of-floats": _crowded(_floats_of_one_hash()),
        "complex": _crowded(complexes),
        "integers": _crowded(push_int((2**61 - 1) * n + 1) for n in range(CROWD)),
    }


IDENTICAL = ("states", "records")
"""As keys these are hashed and compared by identity, however much is in them."""

CALLS: dict[str, Code] = {
    "range": call("builtins", "range", 2**62),
    "list-of-range": call("builtins", "list", call("builtins", "range", 2**62)),
    "set-of-range": call("builtins", "set", call("builtins", "range", 2**62)),
    "bytearray-of-number": call("builtins", "bytearray", 2**40),
    "bytes-of-number": call("builtins", "bytes", 2**40),
    "counter-of-range": call("collections", "Counter", call("builtins", "range", 2**62)),
    "size-of-range": call("torch", "Size", call("builtins", "range", 2**62)),
    "complex-of-text": call("builtins", "complex", "1" * 100_000),
}
"""Allowed names with arguments that make their originals take all memory."""


def _repeats() -> dict[str, Code]:
    """One opcode, a great many times."""
    return {
        "dicts": Code(b"}" * 1_000_000),
        "lists": Code(b"]" * 1_000_000),
        "marks": Code(b"(" * 1_000_000),
        "memos": Code(b"N" + b"\x94" * 1_000_000),
        "protocols": Code(b"\x80\2" * 500_000 + state_dict() + b"N"),
        "records": Code((by_global("a", "B") + b")R0") * 60_000 + state_dict() + b"N"),
    }


def _long_paths(letters: int, depth: int, leaf: Any = None) -> Code:
    """Two thousand leaves whose dotted names have `letters * depth` characters each, of one short key."""
    key = put(push("k" * letters), 0)
    leaves = b"".join(push(str(n)) + (tensor() if leaf is None else push(leaf)) for n in range(2000))
    opening = b"}" + key + (b"}" + get(0)) * (depth - 1)
    return Code(opening + b"}(" + leaves + b"u" + b"s" * depth)


def _deep_leaves() -> Code:
    """Many leaves below many levels: each has a path of its own."""
    leaves = b"".join(push(str(n)) + b"N" for n in range(100_000))
    return Code(b"}" + (push("k") + b"}") * 390 + b"(" + leaves + b"u" + b"s" * 390)


def _nested() -> Iterator[Case]:
    """Checkpoints within checkpoints."""
    inner = torch_zip(state_dict())
    for _ in range(200):
        inner = torch_zip({"w": call("torch.storage", "_load_from_bytes", inner)})
    yield refused("bomb-nested-200-deep", inner, seconds=1.0)
    once = put(Code(push(torch_zip(tensor()))), 60)
    load = by_global("torch.storage", "_load_from_bytes")
    many = Code(once + b"0](" + (load + get(60) + b"\x85R") * 50_000 + b"e")
    yield refused("bomb-one-nested-50000-times", torch_zip({"w": tensor(), "x": many}), seconds=3.0)


def cases() -> Iterator[Case]:
    for name, code in doublings().items():
        yield refused(f"bomb-doubling-{name}", torch_zip({"w": tensor(), "x": code}), seconds=1.0)
        yield refused(f"bomb-doubling-{name}-alone", torch_zip(code), seconds=1.0)
        keyed = Code(b"}" + code + b"Ns")
        make = inert if name in IDENTICAL else refused
        yield make(f"bomb-doubling-{name}-as-key", torch_zip({"w": tensor(), "x": keyed}), seconds=1.0)
    for name, code in _deep().items():
        yield refused(f"bomb-deep-{name}", torch_zip({"w": tensor(), "x": code}), seconds=1.0)
        keyed = Code(b"}" + code + b"Ns")
        make = inert if name in IDENTICAL else refused
        yield make(f"bomb-deep-{name}-as-key", torch_zip({"w": tensor(), "x": keyed}), seconds=1.0)
    for name, twin in {
        "deep": (_deep()["frozensets"], _deep()["frozensets"]),
        "doubled": (_doubled_frozensets(), _doubled_frozensets(100)),
    }.items():
        both = _crowded(twin)
        yield refused(f"bomb-twin-keys-{name}", torch_zip({"w": tensor(), "x": both}), seconds=1.0)
    for name, code in _crowds().items():
        yield refused(f"bomb-one-hash-{name}", torch_zip({"w": tensor(), "x": code}), seconds=1.0)
    for name, code in CALLS.items():
        make = inert if name == "range" else refused
        yield make(f"bomb-call-{name}", torch_zip({"w": tensor(), "x": code}), seconds=1.0)
    for name, code in _repeats().items():
        yield refused(f"bomb-repeated-{name}", torch_zip(code), seconds=3.0)
    yield from _nested()
    parameter = by_global("torch._utils", "_rebuild_parameter")
    wrapped = Code(parameter * 5000 + tensor() + b"\x89N\x87R" * 5000)
    yield inert(
        "bomb-parameters-of-parameters",
        torch_zip({"w": tensor(), "x": wrapped}),
        tensors={"w": VALUES, "x": VALUES},
    )
    names = b"".join(push(f"w{n}") + get(60) for n in range(20_000))
    yield inert(
        "bomb-20000-names-of-one-tensor",
        torch_zip(Code(put(tensor(), 60) + b"0}(" + names + b"u")),
        tensors={f"w{n}": VALUES for n in range(20_000)},
    )
    yield refused("bomb-long-paths", torch_zip(_long_paths(10_000, 300)), seconds=2.0)
    yield refused("bomb-long-paths-of-others", torch_zip({"w": tensor(), "x": _long_paths(10_000, 300, "v")}))
    yield refused("bomb-deep-leaves", torch_zip({"w": tensor(), "x": _deep_leaves()}), seconds=2.0)
    tuple_key = Code(b"}" + put(push("k" * 1_000_000), 0) + b"0(" + get(0) * 900 + b"tNs")
    yield inert("bomb-long-tuple-key", torch_zip({"w": tensor(), "x": tuple_key}), seconds=1.0)
    nothing = (tensor(storage("1", "LongStorage", 0), 0, (1, 0), (1, 1)), tensor(size=(0,)), (2**33,))
    layout = call("torch.serialization", "_get_layout", "torch.sparse_coo")
    sparse = call("torch._utils", "_rebuild_sparse_tensor", layout, nothing)
    yield inert("bomb-sparse-of-nothing", torch_zip({"w": tensor(), "x": sparse}, {"0": WEIGHTS, "1": b""}))
    yield refused("bomb-long-name", torch_zip(pickled({"n" * 50_000_000: tensor(offset=-1)})), seconds=2.0)
