"""The vocabulary of layouts: functions that make rules, so that a table reads as a list of sentences.

The rules themselves are records in `naming_rules`, `shape_rules` and `value_rules`; what a pattern is
(`#`, `**`, `(a|b)`, `{e}`) tells `wconv.layouts.patterns`. The examples show what `apply` makes of tensors:

>>> import numpy as np
>>> from wconv.layouts.rules import apply_rules, drop, rename
>>> tensors = {"model.0.weight": np.zeros((2, 3)), "model.0.mask": np.zeros(1)}
>>> {name: tensor.shape for name, tensor in apply_rules(tensors, rename("model.**", "**")).items()}
{'0.weight': (2, 3), '0.mask': (1,)}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, Option, Setting, When
from wconv.layouts.naming_rules import CopyRule, DropRule, KeepDtypeRule, RenameRule
from wconv.layouts.patterns import check_target
from wconv.layouts.rule import UNFIT, Rule, Side, State, TracedTensor, add_new, check_axis, unfit_error
from wconv.layouts.shape_rules import ROLES, ReshapeRule, SplitRule, StackRule, TransposeRule, ViewRule
from wconv.layouts.value_rules import AddRule, ComputeRule
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DTypeLike
from wconv.tensors.lazy import LazyTensor, from_array

__all__ = [
    "ROLES",
    "UNFIT",
    "AddRule",
    "ComputeRule",
    "CopyRule",
    "DropRule",
    "KeepDtypeRule",
    "RenameRule",
    "ReshapeRule",
    "Rule",
    "Side",
    "SplitRule",
    "StackRule",
    "State",
    "TracedTensor",
    "TransposeRule",
    "ViewRule",
    "add_new",
    "add_one",
    "apply_rules",
    "check_axis",
    "compute",
    "copy_if_missing",
    "drop",
    "keep_dtype",
    "rename",
    "reshape",
    "split",
    "stack",
    "transpose",
    "unfit_error",
    "unless",
    "view_flat",
]  # fmt: skip


def apply_rules(
    tensors: Mapping[str, Any], *rules: Rule, config: Mapping[str, Any] | None = None
) -> dict[str, LazyTensor]:
    """What rules make of tensors, one rule after another, lazily: to try rules out.

    Args:
        tensors: numpy arrays or lazy tensors by name.
        config: the model's config.json, which some rules depend on.

    Raises:
        LayoutError: a tensor does not fit a rule.

    >>> import numpy as np
    >>> apply_rules({"a": np.ones(2, np.float32)}, add_one("a"))["a"].read()
    array([2., 2.], dtype=float32)
    """
    context = Context(config or {}, {})
    state = {
        name: TracedTensor(tensor if isinstance(tensor, LazyTensor) else from_array(tensor), (name,))
        for name, tensor in tensors.items()
    }
    for rule in rules:
        if rule.active(context):
            state = rule.apply(state, context)
    return {name: entry.tensor for name, entry in state.items()}


def drop(
    source: str,
    reason: str,
    *,
    beyond: Setting | None = None,
    same_as: tuple[str, ...] = (),
    when: When | None = None,
) -> DropRule:
    """Leaves tensors out that a pattern matches, each with the reason, which the report tells.

    Args:
        source: a pattern of names.
        reason: one short clause: "recomputed by the consumer".
        beyond: only those whose first number (`#`) is at least this setting of config.json.
        same_as: names, of which the first that is there is what the consumer uses in its place: the dropped
            tensor must be equal to it.
        when: a condition on config.json or on the caller's options.

    >>> import numpy as np
    >>> tensors = {"layers.0.w": np.ones(2), "layers.1.w": np.ones(2), "mask": np.ones(1)}
    >>> list(apply_rules(tensors, drop("mask", "not used")))
    ['layers.0.w', 'layers.1.w']
    >>> beyond = drop("layers.#.**", "one layer too many", beyond=Setting("num_hidden_layers"))
    >>> list(apply_rules(tensors, beyond, config={"num_hidden_layers": 1}))
    ['layers.0.w', 'mask']
    """
    return DropRule(source, reason, beyond, same_as=same_as, when=when)


def rename(
    source: str, target: str, *, except_for: tuple[str, ...] = (), when: When | None = None
) -> RenameRule:
    """Gives tensors another name, wildcard for wildcard.

    Args:
        source: a pattern of names.
        target: a pattern with the same wildcards in the same order, and word lists of the same length.
        except_for: patterns of names that keep theirs.
        when: a condition on config.json or on the caller's options.

    Raises:
        LayoutError: the target has other wildcards than the source.

    >>> import numpy as np
    >>> tensors = {"h.3.ln_1.weight": np.ones(2), "h.3.ln_2.weight": np.ones(2)}
    >>> list(apply_rules(tensors, rename("h.#.(ln_1|ln_2).weight", "layers.#.(norm1|norm2).weight")))
    ['layers.3.norm1.weight', 'layers.3.norm2.weight']
    >>> list(apply_rules(tensors, rename("h.**", "layers.**", except_for=("**.ln_2.weight",))))
    ['layers.3.ln_1.weight', 'h.3.ln_2.weight']
    """
    check_target(source, target)
    return RenameRule(source, target, except_for, when=when)


def transpose(
    source: str,
    role: str,
    *,
    last: int | Setting | None = None,
    only: tuple[int, Setting] | None = None,
    when: When | None = None,
) -> TransposeRule:
    """Puts axes in the order that MLX wants for a role: the keys of `ROLES`, or "swap_last".

    Args:
        source: a pattern of names; all must have as many axes as the role.
        role: "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "matrix" or "swap_last".
        last: the length of the last axis once this is done (and of axis 1 before), by which a converted
            checkpoint is told from one that is not when names do not tell.
        only: an axis and its length: tensors of another length there have the right order already.
        when: a condition on config.json or on the caller's options.

    Raises:
        LayoutError: there is no such role.

    >>> import numpy as np
    >>> tensors = {"conv.weight": np.ones((8, 3, 5, 5)), "experts": np.ones((2, 4, 6))}
    >>> apply_rules(tensors, transpose("conv.weight", "conv2d"))["conv.weight"].shape
    (8, 5, 5, 3)
    >>> apply_rules(tensors, transpose("experts", "swap_last"))["experts"].shape
    (2, 6, 4)
    """
    if role != "swap_last" and role not in ROLES:
        raise LayoutError(f"{role!r} is no order of axes: one of {', '.join(ROLES)}, swap_last")
    return TransposeRule(source, role, last, only, when=when)


def split(
    source: str,
    into: tuple[str, ...],
    axis: int,
    *,
    sizes: tuple[Setting, ...] = (),
    interleaved: bool = False,
    when: When | None = None,
) -> SplitRule:
    """Cuts a tensor along an axis into several.

    Args:
        source: a pattern of names.
        into: for each part a pattern with the source's wildcards.
        axis: where to cut; negative ones count from the end.
        sizes: the length of each part, fields of config.json; equal parts when empty.
        interleaved: part i takes every n-th element, from i on, instead of one run.
        when: a condition on config.json or on the caller's options.

    Raises:
        LayoutError: a target has other wildcards than the source.

    >>> import numpy as np
    >>> tensors = {"0.qkv": np.arange(6.0)}
    >>> parts = apply_rules(tensors, split("#.qkv", ("#.q", "#.k", "#.v"), 0))
    >>> {name: part.read().tolist() for name, part in parts.items()}
    {'0.q': [0.0, 1.0], '0.k': [2.0, 3.0], '0.v': [4.0, 5.0]}
    >>> both = apply_rules(tensors, split("#.qkv", ("#.even", "#.odd"), 0, interleaved=True))
    >>> both["0.odd"].read().tolist()
    [1.0, 3.0, 5.0]
    """
    for target in into:
        check_target(source, target)
    return SplitRule(source, into, axis, sizes, interleaved, when=when)


def stack(source: str, target: str, *, count: Setting | None = None, when: When | None = None) -> StackRule:
    """Puts the tensors that differ in `{e}` side by side on a new first axis, 0, 1, 2 … without a gap.

    Args:
        source: a pattern of names with `{e}` in it.
        target: a pattern with the source's wildcards, without `{e}`.
        count: how many there must be, a field of config.json; as many as there are when absent.
        when: a condition on config.json or on the caller's options.

    Raises:
        LayoutError: the target has other wildcards than the source.

    >>> import numpy as np
    >>> tensors = {f"0.experts.{number}.w": np.ones((4, 6)) for number in range(3)}
    >>> stacked = apply_rules(tensors, stack("#.experts.{e}.w", "#.switch.w"))
    >>> {name: tensor.shape for name, tensor in stacked.items()}
    {'0.switch.w': (3, 4, 6)}
    """
    check_target(source, target)
    return StackRule(source, target, count, when=when)


def add_one(source: str, *, when: When | None = None) -> AddRule:
    """Adds 1 to tensors of one axis, rounded in their own dtype; others stay.

    For norms that are published as the difference from 1.

    >>> import numpy as np
    >>> apply_rules({"norm.weight": np.array([0.5, -1.0])}, add_one("norm.weight"))["norm.weight"].read()
    array([1.5, 0. ])
    """
    return AddRule(source, 1.0, when=when)


def copy_if_missing(source: str, target: str, *, when: When | None = None) -> CopyRule:
    """Writes a tensor a second time under another name, unless the checkpoint has that name.

    Raises:
        LayoutError: the target has other wildcards than the source.

    >>> import numpy as np
    >>> list(apply_rules({"embed.weight": np.ones(2)}, copy_if_missing("embed.weight", "head.weight")))
    ['embed.weight', 'head.weight']
    """
    check_target(source, target)
    return CopyRule(source, target, when=when)


def reshape(
    source: str,
    shape: tuple[int | Setting, ...],
    *,
    back: tuple[int | Setting, ...] = (),
    when: When | None = None,
) -> ReshapeRule:
    """Gives tensors another shape of as many elements.

    Args:
        source: a pattern of names.
        shape: for each axis its length: a number, a field of config.json, 0 for the axis' own, -1 for the
            rest.
        back: the shape that they had, written alike, for the way back; without it the shape stays there.
        when: a condition on config.json or on the caller's options.

    >>> import numpy as np
    >>> rule = reshape("gamma", (Setting("heads"), -1), back=(-1,))
    >>> apply_rules({"gamma": np.ones(6)}, rule, config={"heads": 2})["gamma"].shape
    (2, 3)
    """
    return ReshapeRule(source, shape, back, when=when)


def view_flat(
    source: str, dtype: DTypeLike, *, back: tuple[str, int] | None = None, when: When | None = None
) -> ViewRule:
    """Reads the same bytes as another dtype, and joins the last two axes.

    Args:
        source: a pattern of names.
        dtype: by any of its names.
        back: the dtype and the length of the last axis that they had, for the way back.
        when: a condition on config.json or on the caller's options.

    >>> import numpy as np
    >>> tensors = {"blocks": np.zeros((4, 2, 16), np.uint8)}
    >>> apply_rules(tensors, view_flat("blocks", "uint32", back=("uint8", 16)))["blocks"].shape
    (4, 8)
    """
    return ViewRule(source, dtypes.of(dtype).name, back, when=when)


def keep_dtype(source: str) -> KeepDtypeRule:
    """Lets a cast of the model pass over tensors, by the names that the consumer has for them.

    >>> print(keep_dtype("**.A_log"))
    keep dtype of **.A_log
    """
    return KeepDtypeRule(source)


def compute(
    source: str, companion: str, name: str, function: Callable[[LazyTensor, LazyTensor], LazyTensor]
) -> ComputeRule:
    """Makes one tensor out of two, by a function; the second is used up.

    Args:
        source: a pattern of names.
        companion: the name of the second in terms of the source; where it is missing nothing happens.
        name: what the step is called in a rules file.
        function: (tensor, companion) → tensor, lazily; it may raise LayoutError.

    Raises:
        LayoutError: the companion's name has other wildcards than the source.

    >>> import numpy as np
    >>> from wconv.layouts.computed.recurrent import summed
    >>> tensors = {"0.bias_ih": np.ones(2), "0.bias_hh": np.ones(2)}
    >>> rule = compute("#.bias_ih", "#.bias_hh", "summed", summed)
    >>> {name: one.read().tolist() for name, one in apply_rules(tensors, rule).items()}
    {'0.bias_ih': [2.0, 2.0]}
    """
    check_target(source, companion)
    return ComputeRule(source, companion, name, function)


def unless(option: str) -> When:
    """The condition that the caller did not ask for an option.

    >>> print(drop("fov.**", "not used", when=unless("include_fov")))
    drop fov.**: not used when option include_fov is not True
    """
    return When(Option(option), True, negated=True)
