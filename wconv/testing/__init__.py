"""A test kit: checks a reader of a format, or a table of rules, of one's own.

    from wconv import testing

    def test_my_reader(tmp_path):
        arrays = {"w": np.ones((2, 3), np.float32)}
        testing.check_reader(my_format.read, my_format.write(arrays, tmp_path / "x.mine"), arrays)

    def test_my_table():
        testing.check_table(MY_LAYOUT, {"model.w": np.ones((2, 3), np.float32)}, {"model_type": "mine"})

A check that fails raises `AssertionError` with a sentence that says what went wrong, and where.
"""

from __future__ import annotations

from wconv.testing.readers import (
    check_fuzzed,
    check_opens,
    check_reader,
    check_sizes,
    check_truncated,
    read_registered,
)
from wconv.testing.stores import check_store
from wconv.testing.tables import check_every_rule, check_fixed_point, check_table, check_way_back

__all__ = [
    "check_every_rule",
    "check_fixed_point",
    "check_fuzzed",
    "check_opens",
    "check_reader",
    "check_sizes",
    "check_store",
    "check_table",
    "check_truncated",
    "check_way_back",
    "read_registered",
]
