"""The conformance table: calls as data, each run on the shim and on torch."""

from __future__ import annotations

from tests.shim import (
    rows_arithmetic,
    rows_creation,
    rows_dtypes,
    rows_edges,
    rows_holders,
    rows_meta,
    rows_random,
    rows_searching,
    rows_shapes,
    rows_values,
)
from tests.shim.table import Row

TABLE: list[Row] = [
    *rows_dtypes.ROWS,
    *rows_shapes.ROWS,
    *rows_arithmetic.ROWS,
    *rows_creation.ROWS,
    *rows_values.ROWS,
    *rows_edges.ROWS,
    *rows_holders.ROWS,
    *rows_searching.ROWS,
    *rows_random.ROWS,
    *rows_meta.ROWS,
]
