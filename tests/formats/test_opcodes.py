"""The opcodes have the names and the numbers that Python's own `pickle` gives them."""

from __future__ import annotations

import pickle

from wconv.formats.torch.pickle import codes


def test_each_code_is_python_s() -> None:
    mine = {name: value for name, value in vars(codes).items() if name.isupper()}
    python = {
        name: value[0]
        for name, value in vars(pickle).items()
        if name.isupper() and isinstance(value, bytes) and len(value) == 1
    }
    assert mine == python
