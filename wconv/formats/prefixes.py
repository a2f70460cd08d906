"""What wrappers of modules put before names and into them, and names without it."""

from __future__ import annotations

from collections.abc import Collection

PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "ema_model.")
"""What wrappers of modules put before every name."""

COUNTERS = frozenset({"initted", "step", "num_updates"})
"""Names that an averaged model keeps beside its own, without its prefix."""

INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What wrappers of parts of a module put within names."""


def may_have(names: Collection[str]) -> bool:
    """Whether there is anything to take off these names: told at a glance."""
    first = next(iter(names), "")
    if first.startswith(PREFIXES) or first in COUNTERS:
        return True
    joined = "\n".join(names)
    return any(infix in joined for infix in INFIXES)


def strip_prefixes(names: list[str]) -> tuple[dict[str, str], list[str]]:
    """What each name is without wrappers' prefixes, and which were taken off.

    A prefix goes when every name has it; an infix wherever it is. Nothing goes where names would collide.
    """
    short = {name: name for name in names}
    taken: list[str] = []
    for infix in INFIXES:
        if not any(infix in text for text in short.values()):
            continue
        trial = {name: text.replace("." + infix, ".").removeprefix(infix) for name, text in short.items()}
        if trial != short and len(set(trial.values())) == len(trial):
            short, taken = trial, [*taken, infix]
    changed = bool(names)
    while changed:
        changed = False
        for prefix in PREFIXES:
            meant = [text for text in short.values() if text not in COUNTERS]
            if meant and all(text.startswith(prefix) and len(text) > len(prefix) for text in meant):
                short = {name: text.removeprefix(prefix) for name, text in short.items()}
                taken, changed = [*taken, prefix], True
    return short, taken


def note(taken: list[str]) -> str:
    """The sentence on what was taken off."""
    return f"took {', '.join(taken)} off the names"
