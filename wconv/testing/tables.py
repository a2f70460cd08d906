"""Checks of a table of rules: every rule is used, twice is as good as once, the way back gives the source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wconv.layouts.apply import Layout, LayoutResult, apply
from wconv.layouts.inverse import restore
from wconv.tensors.lazy import Array, LazyTensor, from_array


def check_table(
    layout: Layout,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """All checks of this module on the tensors of one model, whose values should be random.

    Args:
        layout: the table.
        arrays: a whole model's tensors as the hub has them, small, each name once.
        config: its config.json, on which rules may depend.
        options: what the caller asks of this layout ("include_fov").

    Raises:
        AssertionError: a check failed; the text says which, and for what tensor.
        LayoutError: the tensors do not fit the table.

    Example:
        >>> import numpy as np
        >>> from wconv import Layout, testing
        >>> from wconv.layouts.rules import rename
        >>> table = Layout(("mine",), ("my_model",), ("layers.*",), (rename("model.layers.*", "layers.*"),))
        >>> testing.check_table(table, {"model.layers.0": np.arange(3.0)})
    """
    check_every_rule(layout, arrays, config, options)
    check_fixed_point(layout, arrays, config, options)
    check_way_back(layout, arrays, config, options)


def check_every_rule(
    layout: Layout,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> LayoutResult:
    """Every rule finds a tensor, and every tensor is in the result or left out with a reason.

    Raises:
        AssertionError: a rule found none, or a tensor went without a word.
    """
    applied = _applied(layout, arrays, config, options)
    idle = [str(rule) for rule in applied.unmatched]
    assert not idle, f"no tensor matches {len(idle)} rules: {'; '.join(idle)}"
    used = {source for sources in applied.sources.values() for source in sources}
    gone = [name for name in arrays if name not in used and name not in applied.dropped]
    assert not gone, f"no output is made of {', '.join(gone)}, and no reason is given"
    return applied


def check_fixed_point(
    layout: Layout,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """What is laid out already stays as it is when it is laid out again.

    Raises:
        AssertionError: names or values change the second time.
    """
    once = _stored(_applied(layout, arrays, config, options).tensors)
    twice = apply(layout, once, config, options).tensors
    _check_same(twice, {name: tensor.numpy() for name, tensor in once.items()}, "laid out twice")


def check_way_back(
    layout: Layout,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> LayoutResult:
    """The way back from the result gives the source's names and bits, but for what the table drops.

    Returns:
        What the way back says beside the tensors: its notes.

    Raises:
        AssertionError: there is no telling that the result is laid out, or something differs.
    """
    applied = _applied(layout, arrays, config, options)
    restored = restore(layout, _stored(applied.tensors), config, options)
    assert restored is not None, "there is no telling that the result is in the consumer's layout"
    kept = {name: array for name, array in arrays.items() if name not in applied.dropped}
    _check_same(restored.tensors, kept, "on the way back")
    return restored


def _applied(
    layout: Layout,
    arrays: Mapping[str, Array],
    config: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> LayoutResult:
    return apply(layout, {name: from_array(array) for name, array in arrays.items()}, config, options)


def _stored(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The tensors as a file would have them: computed, without what they were made of."""
    return {name: from_array(tensor.numpy()) for name, tensor in tensors.items()}


def _check_same(tensors: Mapping[str, LazyTensor], arrays: Mapping[str, Array], when: str) -> None:
    missing, more = sorted(arrays.keys() - tensors.keys()), sorted(tensors.keys() - arrays.keys())
    assert not missing, f"{when}, {', '.join(missing)} is missing"
    assert not more, f"{when}, {', '.join(more)} is too much"
    for name, array in arrays.items():
        found = tensors[name].numpy()
        assert (found.dtype, found.shape) == (array.dtype, array.shape), (
            f"{when}, {name} is {found.dtype} {found.shape}, not {array.dtype} {array.shape}"
        )
        assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(array).tobytes(), (
            f"{when}, {name} has other values"
        )
