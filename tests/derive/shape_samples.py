"""A program's own model at one config and at such as differ from it: what shapes are learned from."""

from __future__ import annotations

import copy
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.derive.programs import Program
from tests.derive.shape_fields import Change
from wconv.consumers.shapes import (
    ShapeTable,
    kind_of,
    lookup,
)

Config = dict[str, Any]


Shape = tuple[int, ...]


Numbers = tuple[int, ...]


SECONDS = 5
"""For one model to be built."""


@dataclass
class Sample:
    """The consumer's model at one config.

    Attributes:
        changes: how the config differs from the first.
        held: general name → numbers of layers → shape.
        counts: where layers are numbered, with the numbers above → how many.
    """

    config: Config
    changes: tuple[Change, ...]
    parameters: Mapping[str, Shape]
    held: dict[str, dict[Numbers, Shape]] = field(default_factory=dict)
    counts: dict[str, set[int]] = field(default_factory=dict)

    def arrange(self, lists: Mapping[str, str]) -> None:
        table = ShapeTable(lists, ())
        self.held, self.counts = {}, {}
        for name, shape in self.parameters.items():
            general, numbers = table.general(name)
            self.held.setdefault(general, {})[numbers] = shape
        above: dict[tuple[str, Numbers], int] = {}
        for general, rows in self.held.items():
            parts = general.split(".")
            places = [at for at, part in enumerate(parts) if part == "#"]
            for numbers in rows:
                for order, at in enumerate(places):
                    key = (".".join(parts[:at]), numbers[:order])
                    above[key] = max(above.get(key, 0), numbers[order] + 1)
        for (place, _), count in above.items():
            self.counts.setdefault(place, set()).add(count)


class TooLongError(Exception):
    """A model takes too long to build."""


class Builder:
    """Builds a program's model for configs, each once."""

    def __init__(self, prog: Program, model_type: str, ends: float) -> None:
        self.prog, self.model_type, self.ends = prog, model_type, ends
        self.module = prog.module(model_type)

    def __call__(self, config: Config, changes: tuple[Change, ...] = ()) -> Sample | None:
        """The model at a config; None where the program has none."""
        if time.process_time() > self.ends:
            return None
        signal.signal(signal.SIGVTALRM, _stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            made = self._parameters(copy.deepcopy(config))
        except (Exception, SystemExit, TooLongError):
            return None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if len(made) > 20_000 or any(0 in shape for shape in made.values()):
            return None
        return Sample(config, changes, made)

    def _parameters(self, config: Config) -> dict[str, Shape]:
        import mlx.core as mx
        from mlx.utils import tree_flatten

        mx.random.seed(0)  # or the key, never evaluated, keeps that of every model made before
        model, _ = self.prog.make(self.module, config)
        return {name: tuple(array.shape) for name, array in tree_flatten(model.parameters())}


def _stop(*_: object) -> None:
    raise TooLongError


def singles_of(
    build: Builder, first: Sample, changes: Iterable[Change]
) -> tuple[list[Sample], frozenset[str]]:
    """The models at configs that differ in one field; numbers that could not be varied."""
    config, found = first.config, []
    tried: Counter[str] = Counter()
    varied: set[str] = set()
    idle: Counter[str] = Counter()
    for change in changes:
        if change.kind == "number" and idle[change.path] > 1:
            continue
        sample = joint(build, config, (change,))
        if sample is not None and change.kind == "number" and sample.parameters == first.parameters:
            idle[change.path] += 1
        if kind_of(lookup(config, change.path)) == "number":
            tried[change.path] += 1
        if sample is not None:
            found.append(sample)
            if change.kind == "number":
                varied.add(change.path)
    return found, frozenset(tried.keys() - varied)


def differs(sample: Sample, first: Sample) -> bool:
    return sample.parameters != first.parameters


def joint(build: Builder, config: Config, picked: Sequence[Change]) -> Sample | None:
    changed = config
    try:
        for change in picked:
            changed = change.applied(changed)
    except (AttributeError, IndexError, TypeError):  # the part that it is in is no part, or taken away
        return None
    return build(changed, tuple(picked)) if picked else None
