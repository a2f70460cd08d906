"""Pickles that no pickler writes: broken off, underflowing, lying about lengths, of the wrong types."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.hostile.assemble import Code, by_global, call, get, long4, pickled, push, put, tensor
from tests.hostile.case import Case, inert, refused
from tests.hostile.containers import state_dict, torch_zip

LENGTHS: dict[str, tuple[bytes, int, bool]] = {
    "binunicode": (b"X", 4, False),
    "short-binunicode": (b"\x8c", 1, False),
    "binunicode8": (b"\x8d", 8, False),
    "binstring": (b"T", 4, True),
    "short-binstring": (b"U", 1, False),
    "binbytes": (b"B", 4, False),
    "short-binbytes": (b"C", 1, False),
    "binbytes8": (b"\x8e", 8, False),
    "bytearray8": (b"\x96", 8, False),
    "long1": (b"\x8a", 1, False),
    "long4": (b"\x8b", 4, True),
}
"""Opcodes that are followed by a length: the byte, the length's width and whether it is signed."""

POPPING = b"0123abdeoRstu\x81\x85\x86\x87\x90\x91\x92\x93Qlq"
"""Opcodes that take something from the stack."""


def _bodies() -> dict[str, bytes]:
    """Whole pickles, each wrong in one way."""
    good = pickled(state_dict())
    return {
        "empty": b"",
        "only-proto": b"\x80\x02",
        "only-stop": b".",
        "no-stop": good[:-1],
        "protocol-6": b"\x80\x06" + good[2:],
        "protocol-255": b"\x80\xff" + good[2:],
        "unknown-opcode": b"\x80\x02\xff.",
        "python-2-text": b"(dp0\nS'w'\np1\nS'unterminated\n.",
        "text-escape": b"S'\\x'\n.",
        "text-unquoted": b"Shello\n.",
        "unicode-escape": b"V\\u12\n.",
        "unicode-invalid": b"X\x02\0\0\0\xff\xfe.",
        "unicode-surrogate": b"\x80\x02}X\x03\0\0\0\xed\xa0\x80N.",
        "no-newline": b"V" + b"a" * 100,
        "global-no-newline": b"cposix",
        "global-not-utf8": b"c\xff\xfe\n\xff\n.",
        "global-one-line": b"cposix\n",
        "int-nonsense": b"Ihello\n.",
        "int-empty": b"I\n.",
        "int-underscore": b"I1_0\n.",
        "int-of-5000-digits": b"I" + b"9" * 5000 + b"\n.",
        "long-of-5000-digits": b"L" + b"9" * 5000 + b"L\n.",
        "long-of-a-million-digits": b"L" + b"9" * 1_000_000 + b"L\n.",
        "float-nonsense": b"Fhello\n.",
        "float-short": b"G\0\0.",
        "get-nonsense": b"ghello\n.",
        "get-negative": b"N" + b"g-1\n.",
        "get-unset": b"h\x05.",
        "long-get-unset": b"j\xff\xff\xff\xff.",
        "put-nonsense": b"Nphello\n.",
        "put-negative": b"Np-1\n0g-1\n.",
        "put-empty": b"q\0.",
        "dup-empty": b"2.",
        "pop-mark-without": b"N1.",
        "mark-only": b"(.",
        "mark-as-value": b"}(K\x01u(.",
        "reduce-number": b"K\x01)R.",
        "reduce-list": push([1]) + b")R.",
        "build-number": b"K\x01}b.",
        "build-none": b"N}b.",
        "append-to-number": b"K\x01K\x02a.",
        "append-to-tuple": b")K\x02a.",
        "append-to-dict": b"}K\x02a.",
        "setitem-in-list": b"]K\0K\x02s.",
        "setitems-odd": b"}(K\x01K\x02K\x03u.",
        "dict-odd": b"(K\x01d.",
        "additems-to-list": b"](K\x01\x90.",
        "newobj-number": b"K\x01)\x81.",
        "newobj-args-list": by_global("collections", "OrderedDict") + b"]\x81.",
        "newobj-ex-kwargs-list": by_global("collections", "OrderedDict") + b")]\x92.",
        "obj-empty": b"(o.",
        "inst-without-mark": b"icollections\nOrderedDict\n.",
        "stack-global-numbers": b"\x80\x04K\x01K\x02\x93.",
        "stack-global-bytes": b"\x80\x04C\x02osC\x06system\x93.",
        "next-buffer": b"\x80\x05\x97.",
        "readonly-buffer": b"\x80\x05N\x98.",
        "key-list": b"}]Ns.",
        "key-dict": b"}}Ns.",
        "key-tuple-of-list": b"}]\x85Ns.",
        "set-of-list": b"\x8f(]\x90.",
        "frozenset-of-dict": b"(}\x91.",
        "frame-beyond": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
        "frame-negative": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
        "frame-cut": b"\x80\x04\x95\0\0",
        "long4-negative": long4(-1) + b".",
        "long4-giant": long4(0x7FFFFFFF) + b".",
        "memo-index-4-billion": b"Nr\xff\xff\xff\xff.",
        "memo-index-sparse": b"N" + b"".join(put(Code(b""), 2**n) for n in range(31)) + b".",
        "protocol-in-the-middle": b"}\x80\x09.",
        "state-dict-is-text": pickled("weights"),
        "state-dict-is-number": pickled(7),
        "state-dict-is-list-of-numbers": pickled([1, 2, 3]),
    }


def _recursive() -> dict[str, Code]:
    """Containers that contain themselves, through every opcode that can close the loop."""
    ordered = call("collections", "OrderedDict")
    return {
        "list": Code(put(Code(b"]"), 0) + get(0) + b"a"),
        "dict": Code(put(Code(b"}"), 0) + push("me") + get(0) + b"s"),
        "list-in-tuple": Code(put(Code(b"]"), 0) + get(0) + b"\x85a"),
        "dict-through-list": Code(put(Code(b"}"), 0) + push("me") + b"]" + get(0) + b"as"),
        "ordered-dict": Code(put(ordered, 0) + push("me") + get(0) + b"s"),
        "record-state": Code(
            put(Code(by_global("mine", "Thing") + b")\x81"), 0) + b"}" + push("me") + get(0) + b"sb"
        ),
        "record-is-its-state": Code(put(Code(by_global("mine", "Thing") + b")\x81"), 0) + get(0) + b"b"),
        "record-key-of-itself": Code(
            put(Code(by_global("mine", "Thing") + b")\x81"), 0) + b"}" + get(0) + get(0) + b"sb"
        ),
    }


def cases() -> Iterator[Case]:
    for name, body in _bodies().items():
        yield refused(f"machine-{name}", torch_zip(body))
    for name, (opcode, width, signed) in LENGTHS.items():
        for what, length in (("all-ones", -1), ("largest", 2 ** (8 * width - 1) - 1)):
            number = length.to_bytes(width, "little", signed=length < 0 or signed)
            yield refused(f"length-{name}-{what}", torch_zip(b"\x80\x05" + opcode + number + b"ab"))
        yield refused(f"length-{name}-cut", torch_zip(b"\x80\x05" + opcode))
    for opcode in POPPING:
        yield refused(f"underflow-{opcode:02x}", torch_zip(b"\x80\x05" + bytes([opcode]) + b"\n."))
        yield refused(f"underflow-marked-{opcode:02x}", torch_zip(b"\x80\x05(" + bytes([opcode]) + b"\n."))
    for name, code in _recursive().items():
        yield inert(f"recursive-{name}", torch_zip(state_dict(x=code)))
        yield refused(f"recursive-{name}-alone", torch_zip(code))
    loop = Code(put(Code(b"}"), 0) + push("w") + get(0) + b"s")
    yield refused("recursive-state-dict-of-itself", torch_zip(loop))
    yield inert("trailing-bytes", torch_zip(pickled(state_dict()) + b"cposix\nsystem\n(U\x04truetR."))
    yield inert("trailing-zeros", torch_zip(pickled(state_dict()) + bytes(5000)))
    yield inert("deep-pops", torch_zip(Code(state_dict() + b"N" * 10_000 + b"0" * 10_000)))
    yield inert("key-nan", torch_zip({"w": tensor(), "x": {float("nan"): 1}}))
    yield inert("frame-short", torch_zip(b"\x80\x04\x95" + bytes(8) + state_dict() + b"."))
    yield inert("names-odd", torch_zip({"": tensor()}), tensors={"": [1, 2, 3, 4]})
    yield inert(
        "names-with-newline", torch_zip({"a\nb\x1b[2J": tensor()}), tensors={"a\nb\x1b[2J": [1, 2, 3, 4]}
    )
    yield inert(
        "names-integers",
        torch_zip({7: tensor(), "w": {0: tensor()}}),
        tensors={"7": [1, 2, 3, 4], "w.0": [1, 2, 3, 4]},
    )
    yield refused("names-collide", torch_zip({"a.b": tensor(), "a": {"b": tensor()}}))
    yield refused("names-collide-by-type", torch_zip({"1": tensor(), 1: tensor()}))
