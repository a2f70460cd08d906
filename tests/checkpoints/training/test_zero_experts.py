"""Mixtures of experts that DeepSpeed saved of four ranks, two of which share each set of experts.

Covers `checkpoints/training/zero_rows.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import wconv
import wconv.torch as torch
from wconv.checkpoints.training import zero_experts
from wconv.errors import FormatError

FIXTURE = Path(__file__).parents[3] / "fixtures" / "training" / "moe-1"
EXPERT = "second.deepspeed_moe.experts.deepspeed_experts.{}.up.weight"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE / "global_step2", tmp_path / "global_step2"))


def test_the_float32_values_of_all_experts(place: Path) -> None:
    """They are what the modules have in bfloat16, with more digits."""
    found, expected = wconv.open(place), wconv.open(FIXTURE / "expected.safetensors")
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype.name == "float32"
        assert found[name].cast("bfloat16").numpy().tobytes() == tensor.numpy().tobytes(), name


def test_without_shares_the_module_has_all(place: Path) -> None:
    for file in place.glob("*optim_states.pt"):
        file.unlink()
    found, expected = wconv.open(place), wconv.open(FIXTURE / "expected.safetensors")
    assert {name: tensor.numpy().tobytes() for name, tensor in found.items()} == {
        name: tensor.numpy().tobytes() for name, tensor in expected.items()
    }


def test_an_expert_that_is_missing_is_named(place: Path) -> None:
    (place / "layer_0_expert_2_mp_rank_00_model_states.pt").unlink()
    with pytest.raises(FormatError, match=r"layer_0_expert_2_mp_rank_00_model_states\.pt is missing"):
        wconv.open(place)
    for file in place.glob("layer_*_expert_[23]_*"):
        file.unlink()
    with pytest.raises(FormatError, match="is in the file of no expert: copy the files of all ranks"):
        wconv.open(place)


def test_experts_of_another_order_or_checkpoint(place: Path) -> None:
    path = place / "layer_1_expert_3_mp_rank_00_model_states.pt"
    state = torch.load(str(path), weights_only=False)
    name = EXPERT.format(3)
    torch.save({**state, name: state[name] + 1}, str(path))
    with pytest.raises(FormatError, match="is another in its expert's file than in the ranks' shares"):
        wconv.open(place)
    torch.save({**state, EXPERT.format(2): state[name]}, str(path))
    with pytest.raises(FormatError, match="stands in another file too"):
        wconv.open(place)
    torch.save([1], str(path))
    with pytest.raises(FormatError, match="holds no expert of DeepSpeed's"):
        wconv.open(place)


def test_tensor_parallel_experts_are_refused(place: Path) -> None:
    path = place / "layer_1_expert_3_mp_rank_00_model_states.pt"
    shutil.copy(path, str(path).replace("mp_rank_00", "mp_rank_01"))
    with pytest.raises(FormatError, match="is of a second tensor-parallel rank"):
        wconv.open(place)


@pytest.mark.parametrize("count", [None, 3, [2], [2, 0], [2, 3], [2, 1 << 70], [2, "2"]])
def test_counts_that_lie(count: object) -> None:
    with pytest.raises(FormatError, match="does not say which ranks share the experts of group 1"):
        zero_experts.shares([], count, 1, "here")
