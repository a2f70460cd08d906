"""An optimizer's state that is there and not read is named as that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import wconv
from wconv.errors import FormatError


def test_a_sharded_state_that_is_not_read_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """The names of Megatron-Core's state, in which no `param_groups` tells the optimizer."""
    ones = np.ones((2, 2), np.float32)
    save_file({"decoder.w": ones, "optimizer.state.exp_avg.decoder.w": ones}, tmp_path / "in.safetensors")
    wconv.convert(tmp_path / "in.safetensors", tmp_path / "dcp", format="dcp")
    with pytest.raises(FormatError, match="of which wconv reads no optimizer state"):
        wconv.convert(tmp_path / "dcp", tmp_path / "out", optimizer=True)
    assert not (tmp_path / "out").exists()
