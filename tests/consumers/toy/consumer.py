"""The program "toy": its facts, without anything heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wconv.consumers.consumer import Consumer

if TYPE_CHECKING:
    from wconv.layouts.apply import Layout


def _tables() -> tuple[Layout, ...]:
    from tests.consumers.toy.tables import LAYOUTS

    return LAYOUTS


TOY = Consumer("toy", "toy", output_suffix="TOY", format="pt", tables=_tables)
