"""The renamings that take a checkpoint's names to a program's: as few as do it, by beginnings of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.derive.names import UnlikeError, general, merged
from tests.derive.trace import UntraceableError
from wconv.errors import LayoutError
from wconv.layouts.naming_rules import RenameRule
from wconv.layouts.patterns import check_target, compile_pattern


def renamed(name: str, rules: Iterable[RenameRule]) -> str:
    """A name after some renamings, one after the other."""
    for rule in rules:
        match = rule.pattern.match(name)
        if match is not None:
            name = compile_pattern(rule.target).render(match, rule.pattern)
    return name


def renames(wanted: Mapping[str, str], *, whole: bool = False) -> list[RenameRule]:
    """Rules that take every name in `wanted` to its value, and names that stay to themselves.

    Args:
        whole: by whole names, not by beginnings.

    Raises:
        UntraceableError: there are none.
    """
    depth = {source: 0 for source, target in wanted.items() if source != target}
    depth = {general(source): 99 if whole else 0 for source in depth}
    pairs = {general(source): general(target) for source, target in wanted.items() if source != target}
    for source, target in wanted.items():
        if source != target and pairs[general(source)] != general(target):
            raise UnlikeError(general(source))
    for _ in range(200):
        rules = _rules(pairs, depth)
        wrong = next((name for name, target in wanted.items() if renamed(name, rules) != target), None)
        if wrong is None:
            if _narrower(rules, wanted, pairs, depth):
                continue
            return rules
        if not _refine(wrong, wanted[wrong], rules, pairs, depth):
            break
    raise UntraceableError(f"no order of renamings takes {wrong} to {wanted.get(wrong or '')}")


def _narrower(
    rules: list[RenameRule], wanted: Mapping[str, str], pairs: Mapping[str, str], depth: dict[str, int]
) -> bool:
    """Makes rules more special that leave unclear whether a checkpoint is converted; False when none is.

    A final name must not look as if it were still to be renamed, nor one that stays as if it had been.
    """
    final = set(wanted.values())
    stays = {name for name, target in wanted.items() if name == target}
    for rule in rules:
        target = compile_pattern(rule.target)
        unclear = any(rule.pattern.match(name) for name in final) or any(target.match(name) for name in stays)
        if not unclear:
            continue
        changed = False
        for source in pairs:
            if rule.pattern.match(source.replace("#", "0")) and depth[source] < len(source.split(".")):
                depth[source] += 1
                changed = True
        if changed:
            return True
    return False


def _rules(pairs: Mapping[str, str], depth: Mapping[str, int]) -> list[RenameRule]:
    found: dict[tuple[str, str], None] = {}
    for source, target in pairs.items():
        found.setdefault(_cut(source, target, depth[source]))
    rows = merged(sorted(found, key=lambda row: (-len(row[0].split(".")), row)))
    rows.sort(key=lambda row: (-row[0].count("."), "**" in row[0]))
    rules = []
    for source, target in _ordered(rows):
        try:
            check_target(source, target)
        except LayoutError as error:
            if source.count("#") != target.count("#"):
                raise UnlikeError(max(source, target, key=lambda one: one.count("#"))) from None
            raise UntraceableError(str(error)) from None
        rules.append(RenameRule(source, target))
    return rules


def _ordered(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows in an order in which, where that is possible, nothing that one makes is renamed by a later one."""
    left, done = list(rows), []
    while left:
        free = next(
            (row for row in left if not any(_feeds(row[1], other[0]) for other in left if other is not row)),
            left[0],
        )
        left.remove(free)
        done.append(free)
    return done


def _feeds(target: str, source: str) -> bool:
    """Whether a name that a target makes matches the source of another."""
    sample = target.replace("**", "x.weight").replace("#", "0")
    return compile_pattern(source).match(sample) is not None


def _cut(source: str, target: str, longer: int) -> tuple[str, str]:
    """Both names without the end that they share, but for `longer` parts of it."""
    ours, theirs = source.split("."), target.split(".")
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[-1 - shared] == theirs[-1 - shared]:
        shared += 1
    shared = max(min(shared, len(ours) - 1) - longer, 0)
    if shared == 0:
        return source, target
    start, end = ours[: len(ours) - shared], theirs[: len(theirs) - shared]
    return ".".join([*start, "**"]), ".".join([*end, "**"])


def _refine(
    wrong: str, target: str, rules: list[RenameRule], pairs: Mapping[str, str], depth: dict[str, int]
) -> bool:
    """Makes the rule that took a name to the wrong place more special; False when none can be."""
    name = wrong
    blamed: list[RenameRule] = []
    for rule in rules:
        if rule.pattern.match(name):
            blamed.append(rule)
            name = renamed(name, [rule])
    changed = False
    for rule in reversed(blamed):
        for source in pairs:
            if general(wrong) == source and len(blamed) == 1:
                continue
            sample = source.replace("#", "0")
            if rule.pattern.match(sample) and depth[source] < len(source.split(".")):
                depth[source] += 1
                changed = True
        if changed:
            return True
    for source in pairs:
        if depth[source] < len(source.split(".")):
            depth[source] += 1
            changed = True
    return changed
