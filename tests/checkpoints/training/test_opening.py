"""What torch's own programs saved of several ranks is read as the tensors that they were given.

The files in fixtures/training were written by torch 2.13 with gloo, in two and four processes.
Covers `checkpoints/training/dcp.py`, `checkpoints/training/hub_shards.py`,
`checkpoints/training/rank_files.py`, `checkpoints/training/saved.py`, `checkpoints/training/file_names.py`.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import wconv
from wconv.errors import FormatError, WconvError
from wconv.tensors.lazy import FileTensor

FIXTURES = Path(__file__).parents[3] / "fixtures" / "training"
NAMES = ["dcp-4", "dcp-nested", "dcp-safetensors", "hf", "ranks-4", "fsdp1-2"]


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of a fixture that a test may damage."""
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / request.param))


def same(found: wconv.Checkpoint, expected: wconv.Checkpoint) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].numpy().tobytes() == tensor.numpy().tobytes(), name


@pytest.mark.parametrize("name", NAMES)
def test_pieces_make_the_whole(name: str) -> None:
    same(wconv.open(FIXTURES / name), wconv.open(FIXTURES / "expected.safetensors"))


@pytest.mark.parametrize("name", NAMES)
def test_pieces_are_converted(name: str, tmp_path: Path) -> None:
    report = wconv.convert(FIXTURES / name, tmp_path / "out")
    assert report.shards == ("model.safetensors",)
    same(wconv.open(report.output), wconv.open(FIXTURES / "expected.safetensors"))
    assert not [path.name for path in report.output.iterdir() if not path.name.startswith("model.")]


def test_the_metadata_file_stands_for_its_directory() -> None:
    assert len(wconv.open(FIXTURES / "dcp-4" / ".metadata")) == 6


def test_nested_names_and_lists_and_objects() -> None:
    opened = wconv.open(FIXTURES / "dcp-nested")
    assert "took model, not lists; --key picks another" in opened.notes
    assert opened.metadata["step"] == 1
    groups = opened.metadata["optimizer"]["param_groups"]
    assert groups[0]["betas"] == (0.9, 0.999)
    assert groups[0]["params"] == ["layers.0.norm", "layers.0.up.weight"]
    (x,) = wconv.open(FIXTURES / "dcp-nested", key="lists").values()
    assert x.numpy().tolist() == [0, 1, 2]


def test_the_optimizer_state_is_converted(tmp_path: Path) -> None:
    report = wconv.convert(FIXTURES / "dcp-nested", tmp_path / "out", optimizer=True)
    state = wconv.open(report.output / "optimizer.safetensors")
    weights = wconv.open(FIXTURES / "expected.safetensors")
    moment = state["layers.0.up.weight.m"].numpy()
    assert abs(moment - 0.1 * weights["layers.0.up.weight"].numpy()).max() < 1e-6


@pytest.mark.parametrize(
    ("copied", "file"),
    [
        ("dcp-4", "__2_0.distcp"),
        ("ranks-4", "model_world_size_4_rank_1.pt"),
        ("ranks-4", "model_world_size_4_rank_3.pt"),
        ("hf", "shard-00001-model-00001-of-00001.safetensors"),
    ],
    indirect=["copied"],
)
def test_a_rank_that_is_missing_is_named(copied: Path, file: str) -> None:
    (copied / file).unlink()
    with pytest.raises(FormatError, match=f"{re.escape(file)} is missing"):
        wconv.open(copied)


def test_flat_parameters_say_nothing_of_tensors() -> None:
    with pytest.raises(FormatError, match=r"rank_0\.pt holds flat parameters .* SHARDED_STATE_DICT"):
        wconv.open(FIXTURES / "fsdp1-local")


def test_a_shard_alone_is_no_tensor() -> None:
    with pytest.raises(FormatError, match=r"holds only \[.*\] of \[.*\]: join the files of all ranks"):
        wconv.open(FIXTURES / "fsdp1-2" / "model_world_size_2_rank_1.pt")


@pytest.mark.parametrize("copied", ["fsdp1-2"], indirect=True)
def test_a_rank_file_that_is_there_twice_has_a_hole(copied: Path) -> None:
    first = copied / "model_world_size_2_rank_0.pt"
    shutil.copy(first, copied / "model_world_size_2_rank_1.pt")
    with pytest.raises(FormatError, match=r"\[\d+:\d+.*\] of .* is in no file"):
        wconv.open(copied)


@pytest.mark.parametrize("copied", ["hf"], indirect=True)
def test_a_hole_names_the_tensor_and_the_range(copied: Path) -> None:
    (copied / "shard-00002-model-00001-of-00001.safetensors").unlink()
    header = wconv.open(copied)
    # nothing says how long the whole is: what is there begins at 0 and has no hole
    assert header["layers.0.up.weight"].shape == (5, 6)
    (copied / "shard-00001-model-00001-of-00001.safetensors").unlink()
    for rank in (1, 2):
        name = f"shard-{rank:05d}-model-00001-of-00001.safetensors"
        data = (FIXTURES / "hf" / f"shard-{3 - rank:05d}-model-00001-of-00001.safetensors").read_bytes()
        (copied / name).write_bytes(data.replace(b"[5, 0]", b"[6, 0]"))
    with pytest.raises(FormatError, match=re.escape("[5:6, 0:6] of layers.0.up.weight is in no file")):
        wconv.open(copied)


@pytest.mark.parametrize("copied", ["dcp-4"], indirect=True)
def test_a_file_that_ends_early(copied: Path) -> None:
    file = copied / "__1_0.distcp"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FormatError, match=r"__1_0.distcp is truncated or .metadata is damaged"):
        wconv.open(copied)


@pytest.mark.parametrize("copied", ["dcp-4"], indirect=True)
def test_files_of_another_checkpoint(copied: Path) -> None:
    """What `.metadata` tells of a piece must be there when it is read."""
    file = copied / "__0_0.distcp"
    data = file.read_bytes()
    assert b"FloatStorage" in data
    file.write_bytes(data.replace(b"FloatStorage", b"IntStorage\nX"[:12]))
    opened = wconv.open(copied)
    with pytest.raises(WconvError, match=r"__0_0\.distcp"):
        opened["layers.0.up.weight"].numpy()


@pytest.mark.parametrize("copied", ["dcp-nested"], indirect=True)
def test_config_and_tokenizer_beside_it(copied: Path, tmp_path: Path) -> None:
    (copied / "trainer_state.json").write_text("{}")
    (copied.parent / "config.json").write_text(json.dumps({"model_type": "nobody_knows"}))
    (copied.parent / "tokenizer.json").write_text("{}")
    (copied.parent / "scheduler.pt").write_bytes(b"x")
    report = wconv.convert(copied, tmp_path / "out")
    kept = {path.name for path in report.output.iterdir() if not path.name.startswith("model.")}
    assert kept == {"config.json", "tokenizer.json"}


def test_config_of_another_directory(tmp_path: Path) -> None:
    other = tmp_path / "base"
    other.mkdir()
    with pytest.raises(FormatError, match=r"has no config\.json: --config names a directory with one"):
        wconv.open(FIXTURES / "hf", config=other)
    (other / "config.json").write_text(json.dumps({"model_type": "nobody_knows"}))
    (other / "merges.txt").write_text("")
    (other / "model.safetensors").write_bytes(b"")
    report = wconv.convert(FIXTURES / "hf", tmp_path / "out", config=other)
    assert json.loads((report.output / "config.json").read_text())["model_type"] == "nobody_knows"
    assert (report.output / "merges.txt").exists()
    report = wconv.convert(FIXTURES / "expected.safetensors", tmp_path / "file", config=other)
    assert (report.output / "config.json").exists()


def test_a_sub_directory_is_found_and_told(tmp_path: Path) -> None:
    run = tmp_path / "checkpoint-500"
    shutil.copytree(FIXTURES / "dcp-4", run / "pytorch_model_fsdp_0")
    shutil.copytree(FIXTURES / "dcp-nested", run / "optimizer_0")
    opened = wconv.open(run)
    assert opened.notes == ("took pytorch_model_fsdp_0",)
    shutil.copytree(FIXTURES / "ranks-4", run / "policy")
    with pytest.raises(FormatError, match="several training checkpoints"):
        wconv.open(run)
    (run / "latest").write_text("policy\n")
    assert wconv.open(run).notes == ("took policy, the latest",)


def test_what_trainers_leave_beside_is_no_model(tmp_path: Path) -> None:
    run = tmp_path / "checkpoint-500"
    shutil.copytree(FIXTURES / "zero-2" / "global_step2", run / "global_step500")
    (run / "latest").write_text("global_step500")
    for name in ("rng_state_0.pth", "scheduler.pt", "training_args.bin", "sampler.bin", "optimizer_1.bin"):
        (run / name).write_bytes(b"PK")
    assert wconv.open(run).format == "DeepSpeed ZeRO"
    shutil.rmtree(run / "global_step500")
    shutil.copytree(FIXTURES / "ranks-4", run / "actor")
    (run / "actor" / "optim_world_size_4_rank_0.pt").write_bytes(b"PK")
    (run / "actor" / "huggingface").mkdir()
    (run / "actor" / "huggingface" / "config.json").write_text(json.dumps({"model_type": "nobody_knows"}))
    opened = wconv.open(run)
    assert opened.notes == ("took actor",)
    assert opened.config == {"model_type": "nobody_knows"}


def test_whole_weights_go_before_what_a_trainer_keeps(tmp_path: Path) -> None:
    run = tmp_path / "checkpoint-500"
    shutil.copytree(FIXTURES / "dcp-4", run / "global_step5")
    shutil.copy(FIXTURES / "expected.safetensors", run / "model.safetensors")
    assert wconv.open(run).format == "safetensors"
    assert isinstance(wconv.open(run)["head.weight"], FileTensor)
