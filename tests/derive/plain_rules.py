"""Rules that need no trace of elements: what is left out, what is not cast, what names a program knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tests.derive.names import general, merged
from tests.derive.trace import Shape, UntraceableError
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import DropRule, KeepDtypeRule, Rule

LEFT_OUT = "the consumer's sanitize leaves it out"


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name."""
    return compile_pattern(pattern).match(name) is not None


def drops(shapes: Mapping[str, Shape], used: set[str]) -> list[Rule]:
    """Rules for what is left out, by the longest beginnings of names that nothing else has."""
    gone = [name for name in shapes if name not in used]
    patterns: dict[str, None] = {}
    for name in gone:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            start = ".".join(parts[:length])
            whole = length == len(parts)
            if not any(other == start or other.startswith(f"{start}.") for other in used):
                patterns.setdefault(general(start) + ("" if whole else ".**"))
                break
        else:
            patterns.setdefault(general(name))
    found: list[Rule] = []
    for (pattern,) in merged((one,) for one in patterns):
        if any(fits(pattern, name) for name in used):
            for one in patterns:
                if any(fits(one, name) for name in used):
                    raise UntraceableError(f"{one} is left out in some layers only")
            found.extend(DropRule(one, LEFT_OUT) for one in patterns)
            return found
        found.append(DropRule(pattern, LEFT_OUT))
    return found


def keeping(names: Sequence[str], casts: Callable[[str], bool]) -> list[Rule]:
    """Rules for names that a conversion does not cast."""
    kept = dict.fromkeys(general(name) for name in names if not casts(name))
    return [KeepDtypeRule(pattern) for (pattern,) in merged((one,) for one in kept)]


def known_names(final: Sequence[str], owners: Mapping[str, str]) -> tuple[str, ...]:
    """Patterns of all names that the program may have: a bias where a layer can have one."""
    found = dict.fromkeys((general(name),) for name in final)
    for name, owner in owners.items():
        start, _, last = name.rpartition(".")
        if last == "weight" and ("Linear" in owner or "Conv" in owner):
            found.setdefault((f"{general(start)}.bias",))
    return tuple(pattern for (pattern,) in merged(found))
