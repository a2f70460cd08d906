"""ZeRO checkpoints give what DeepSpeed's own script makes of them, value for value.

The files in fixtures/training were written by DeepSpeed 0.19 on the CPU, `expected.safetensors` by its
`zero_to_fp32`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import wconv
import wconv.torch as torch
from wconv.errors import FormatError

FIXTURES = Path(__file__).parents[3] / "fixtures" / "training"


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a fixture, without the result."""
    made = Path(shutil.copytree(FIXTURES / request.param, tmp_path / request.param))
    (made / "expected.safetensors").unlink()
    return made


def found(path: Path) -> dict[str, Any]:
    return {
        name: (tensor.dtype.name, tensor.shape, tensor.numpy().tobytes())
        for name, tensor in wconv.open(path).items()
    }


@pytest.mark.parametrize("case", ["zero-2", "zero-3"], indirect=True)
def test_the_same_as_deepspeed(case: Path) -> None:
    expected = found(FIXTURES / case.name / "expected.safetensors")
    assert found(case) == expected
    assert found(case / "global_step2") == expected
    assert wconv.open(case).notes == ("took global_step2, the latest",)


@pytest.mark.parametrize("case", ["zero-3"], indirect=True)
def test_a_universal_checkpoint(case: Path) -> None:
    expected = found(FIXTURES / "zero-3" / "expected.safetensors")
    assert found(case / "global_step2-universal") == expected


@pytest.mark.parametrize("case", ["zero-2"], indirect=True)
def test_what_is_not_trained_is_taken_from_the_module(case: Path) -> None:
    """Stage 1 saves no frozen parameters apart, and DeepSpeed's script leaves them out."""
    path = case / "global_step2" / "mp_rank_00_model_states.pt"
    state = torch.load(str(path), weights_only=False)
    kept = {name: value for name, value in state.items() if not name.startswith("frozen")}
    torch.save({**kept, "ds_config": None}, str(path))
    opened = wconv.open(case)
    assert opened["frozen.weight"].dtype.name == "bfloat16"
    assert "frozen.weight: not trained, taken from mp_rank_00_model_states.pt" in opened.notes


@pytest.mark.parametrize(
    ("case", "file", "message"),
    [
        ("zero-2", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "is missing: copy the files of all"),
        ("zero-2", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "was saved by 2 ranks"),
        ("zero-3", "zero_pp_rank_1_mp_rank_00_model_states.pt", "was saved by 2 ranks"),
        (
            "zero-3",
            "zero_pp_rank_0_mp_rank_00_model_states.pt",
            "rank_0_mp_rank_00_model_states.pt is missing",
        ),
    ],
    indirect=["case"],
)
def test_a_rank_that_is_missing_is_told(case: Path, file: str, message: str) -> None:
    (case / "global_step2" / file).unlink()
    with pytest.raises(FormatError, match=re.escape(message)):
        wconv.open(case / "global_step2")


@pytest.mark.parametrize("case", ["zero-2"], indirect=True)
def test_shares_of_another_checkpoint(case: Path) -> None:
    for rank in (0, 1):
        name = f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        shutil.copy(FIXTURES / "zero-3" / "global_step2" / name, case / "global_step2" / name)
    with pytest.raises(FormatError, match="was saved by 2 ranks"):
        wconv.open(case)


@pytest.mark.parametrize("case", ["zero-2"], indirect=True)
def test_what_deepspeed_cannot_join_either(case: Path) -> None:
    place = case / "global_step2"
    shutil.copy(place / "mp_rank_00_model_states.pt", place / "mp_rank_01_model_states.pt")
    with pytest.raises(FormatError, match="second tensor-parallel rank: make a universal checkpoint"):
        wconv.open(case)
    (place / "mp_rank_01_model_states.pt").unlink()
    (place / "layer_00-model_00-model_states.pt").write_bytes(b"")
    with pytest.raises(FormatError, match="of a pipeline, which DeepSpeed saves by itself"):
        wconv.open(case)


def test_its_optimizer_state_is_not_read(tmp_path: Path) -> None:
    """It is there, in shares: to say that there is none would be wrong."""
    with pytest.raises(FormatError, match="DeepSpeed ZeRO, of which wconv reads no optimizer state"):
        wconv.convert(FIXTURES / "zero-3" / "global_step2", tmp_path / "out", optimizer=True)
    assert not list(tmp_path.iterdir())
