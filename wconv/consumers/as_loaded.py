"""What a program makes of tensors that are written in names and layouts of another, which it takes too.

mlx-vlm loads a llama by the names of mlx-lm, and its `sanitize` puts `language_model.` before them: what is
known of the shapes of its own model is by its own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.consumers import registry, table_files
from wconv.layouts.apply import Layout, is_known, run_rules
from wconv.layouts.conditions import Context
from wconv.layouts.rules import DropRule, RenameRule, TracedTensor
from wconv.tensors.lazy import LazyTensor

Written = tuple[Mapping[str, LazyTensor], Mapping[str, tuple[str, ...]]]
"""Tensors, and for each name the source's own."""


def as_loaded(written: Written, config: Mapping[str, Any], table: Layout, program: str) -> Written | None:
    """The tensors by the program's own names; None where it is not known what it makes of them.

    Args:
        table: the layout that they are written in.
    """
    if table.consumers[0] == program:
        return written
    consumer = registry.find_consumer(program)
    folder = consumer.table_folder if consumer is not None else ""
    own = table_files.find(folder, str(config.get("model_type", "")).lower()) if folder else None
    if own is None or own.consumers[0] != program:
        return None
    tensors, sources = written
    context = Context(config, {})
    if any(not one.holds(context) for one in own.where):
        return None
    # arrays are of the program's layout already where it takes them: only their names become its own
    naming = [rule for rule in (*own.alias_rules, *own.rules) if isinstance(rule, RenameRule | DropRule)]
    state = {name: TracedTensor(one, sources.get(name) or (name,)) for name, one in tensors.items()}
    if any(not is_known(own.names, name, quantized=False) for name in state):
        state = run_rules(naming, state, context, {})
    if not all(is_known(own.names, name, quantized=False) for name in state):
        return None
    return (
        {name: one.tensor for name, one in state.items()},
        {name: one.sources for name, one in state.items()},
    )
