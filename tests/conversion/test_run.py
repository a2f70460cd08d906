"""A conversion writes every tensor or says why not, and leaves all or nothing.

Covers `conversion/fingerprint.py`, `conversion/outputs.py`, `conversion/planned.py`,
`conversion/prepare.py`, `conversion/request.py`, `conversion/config.py`, `conversion/model.py`,
`conversion/stages.py`, `conversion/report_facts.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

import wconv
from tests.making import bits, random, raw_safetensors, write_directory, write_file
from wconv.errors import OutputError, WconvError
from wconv.tensors import dtypes
from wconv.writing import workspace

FIXTURE = Path(__file__).parent.parent.parent / "fixtures" / "qwen2_5_vl"
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
    "rope_theta": 500000.0,
}


def llama(path: Path, **more: Any) -> Path:
    tensors = {
        "model.embed_tokens.weight": random((40, 16), seed=1),
        "model.layers.0.self_attn.q_proj.weight": random((16, 16), seed=2),
        "model.layers.0.self_attn.rotary_emb.inv_freq": random((8,), np.float32, seed=3),
        "model.norm.weight": random((16,), seed=4),
        "lm_head.weight": random((40, 16), seed=1),
    }
    return write_directory(path, [tensors | more], LLAMA)


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()
    }


def nothing_left(target: Path) -> None:
    assert not os.path.lexists(target)
    assert not os.path.lexists(f"{target}.partial")


def test_the_main_job(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = wconv.convert(FIXTURE, out, dtype="float16")
    source, result = wconv.load(FIXTURE), wconv.load(out)
    assert report.layout == "mlx-vlm"
    assert report.tensors_read == report.tensors_written == len(source) == len(result)
    assert {str(array.dtype) for array in result.values()} == {"float16"}
    conv = source["visual.patch_embed.proj.weight"].transpose(0, 2, 3, 4, 1).astype(np.float16)
    assert bits(result["vision_tower.patch_embed.proj.weight"]) == bits(conv)
    embedding = source["model.embed_tokens.weight"].astype(np.float16)
    assert bits(result["language_model.model.embed_tokens.weight"]) == bits(embedding)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(result)
    for shard in set(index["weight_map"].values()):
        with safe_open(out / shard, "np") as file:
            assert file.metadata()["format"] == "mlx"
    for name in os.listdir(FIXTURE):
        if not name.endswith(".safetensors") and "index" not in name and name != "config.json":
            assert (out / name).read_bytes() == (FIXTURE / name).read_bytes()
    config = json.loads((out / "config.json").read_text())
    assert config["torch_dtype"] == "float16"
    original = json.loads((FIXTURE / "config.json").read_text())
    assert set(original) <= set(config)


def test_dropped_tensors_are_named_with_the_reason(tmp_path: Path) -> None:
    report = wconv.convert(llama(tmp_path / "m"), dtype="float16")
    assert report.output == tmp_path / "m-MLX"
    assert set(report.dropped) == {"lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq"}
    assert len(wconv.open(report.output)) + len(report.dropped) == report.tensors_read


def test_an_unknown_model_passes_unchanged_with_format_pt(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"x.weight": random((4, 4)), "y": np.arange(3)}])
    report = wconv.convert(model, dtype="float16")
    assert report.layout is None
    assert any("format: pt" in line for line in report.lines())
    with safe_open(report.output / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert {name: str(array.dtype) for name, array in wconv.load(report.output).items()} == {
        "x.weight": "float16",
        "y": "int64",
    }


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16", "float32"])
def test_only_floating_tensors_are_cast(dtype: str | None, tmp_path: Path) -> None:
    arrays = {
        "bf": random((4, 6)),
        "half": random((4, 6), np.float16),
        "single": random((4, 6), np.float32),
        "double": random((4, 6), np.float64),
        "e5": random((4, 6), ml_dtypes.float8_e5m2),
        "whole": np.arange(5),
        "mask": np.array([True, False]),
    }
    model = write_directory(tmp_path / "m", [arrays])
    result = wconv.load(wconv.convert(model, dtype=dtype).output)
    defaults = {"double": "float32", "e5": "bfloat16"}
    for name, array in arrays.items():
        floating = array.dtype.kind not in "ib"
        to = (dtype if floating and dtype else None) or defaults.get(name)
        expected = array.astype(dtypes.by_name(to).numpy) if to else array
        assert bits(result[name]) == bits(expected), name


def test_every_dtype_of_the_format_converts_and_the_summary_says_how(tmp_path: Path) -> None:
    header, data = {}, b""
    for row in dtypes.TABLE:
        if row.code != "C128":
            raw = bytes(row.nbytes(16))
            header[row.name] = {
                "dtype": row.code,
                "shape": [16],
                "data_offsets": [len(data), len(data) + len(raw)],
            }
            data += raw
    (tmp_path / "m").mkdir()
    raw_safetensors(tmp_path / "m" / "model.safetensors", header, data)
    report = wconv.convert(tmp_path / "m")
    written = {tensor.dtype.code for tensor in wconv.open(report.output).values()}
    assert not written & {"F64", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2"}
    assert report.dtypes["float64 → float32"] == 1
    assert report.dtypes["float4_e2m1fn_x2 → bfloat16"] == 1


def test_fp8_with_scales_stays_for_the_consumer(tmp_path: Path) -> None:
    arrays = {
        "a.weight": random((4, 4), ml_dtypes.float8_e4m3fn),
        "a.weight_scale_inv": random((1, 1), np.float32),
        "b.weight": random((4, 4), ml_dtypes.float8_e4m3fn),
    }
    source = write_directory(tmp_path / "m", [arrays])
    report = wconv.convert(source, tmp_path / "hub", dtype="float16", layout="hf")
    result = wconv.open(report.output)
    assert result["a.weight"].dtype.name == "float8_e4m3fn"
    assert result["b.weight"].dtype.name == "float16"
    assert "a.weight" in report.kept
    assert (
        wconv.open(wconv.convert(source, tmp_path / "same").output)["a.weight"].dtype.name == "float8_e4m3fn"
    )
    decoded = wconv.open(wconv.convert(source, tmp_path / "decoded", dtype="float16").output)
    assert {name: one.dtype.name for name, one in decoded.items()} == {
        "a.weight": "float16",
        "b.weight": "float16",
    }


def test_keep_dtype_names_of_unknown_models_stay(tmp_path: Path) -> None:
    arrays = {"l.gate.e_score_correction_bias": random((4,), np.float32), "l.A_log": random((4,), np.float32)}
    report = wconv.convert(write_directory(tmp_path / "m", [arrays]), dtype="float16")
    assert set(report.kept) == set(arrays)
    assert {str(array.dtype) for array in wconv.load(report.output).values()} == {"float32"}


def test_overflow_is_told_by_name_and_strict_refuses(tmp_path: Path) -> None:
    arrays = {"big": np.array([1e6, -2e6, 1], np.float32), "ok": np.ones(2, np.float32)}
    model = write_directory(tmp_path / "m", [arrays])
    report = wconv.convert(model, tmp_path / "o", dtype="float16")
    assert {name: tuple(lost) for name, lost in report.overflows.items()} == {"big": (2, 2e6)}
    assert any("1 tensor overflows" in line and "2e+06 in big" in line for line in report.lines())
    with pytest.raises(OutputError, match="2e\\+06 in big"):
        wconv.convert(model, tmp_path / "s", dtype="float16", strict=True)
    nothing_left(tmp_path / "s")
    assert not wconv.convert(model, tmp_path / "b", dtype="bfloat16", strict=True).overflows


def test_include_and_exclude(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"a.x": random((2,)), "a.y": random((2,)), "b.x": random((2,))}])
    report = wconv.convert(model, tmp_path / "o", include="^a", exclude="y$")
    assert list(wconv.open(tmp_path / "o")) == ["a.x"]
    assert set(report.dropped) == {"a.y", "b.x"}
    with pytest.raises(WconvError, match="no tensor"):
        wconv.convert(model, tmp_path / "p", include="nothing")
    with pytest.raises(WconvError, match="regular expression"):
        wconv.convert(model, tmp_path / "p", include="(")


def test_shards_are_cut_at_the_size_that_is_asked(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{str(at): random((500,)) for at in range(10)}])
    report = wconv.convert(model, tmp_path / "o", max_shard_size="2500")
    assert len(report.shards) == 5
    assert report.shards[0] == "model-00001-of-00005.safetensors"
    assert len(wconv.open(tmp_path / "o")) == 10


def test_an_existing_output_is_refused_or_replaced_whole(tmp_path: Path) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"
    wconv.convert(model, out)
    stale = write_file(out / "model-00002-of-00002.safetensors", {"a": random((1,))})
    before = tree(out)
    with pytest.raises(OutputError, match="exists already"):
        wconv.convert(model, out)
    assert tree(out) == before
    wconv.convert(model, out, overwrite=True)
    assert stale.name not in tree(out)
    assert not os.path.lexists(f"{out}.partial")


def test_overwrite_spares_what_no_conversion_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(tmp_path / "m")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds thesis\.tex, which no conversion writes"):
        wconv.convert(model, home, overwrite=True)
    with pytest.raises(OutputError, match="source itself"):
        wconv.convert(model, model, overwrite=True)
    with pytest.raises(OutputError, match="source itself"):
        wconv.convert(model, model / "inner")
    with pytest.raises(OutputError, match="which is read"):
        wconv.convert(model, tmp_path, overwrite=True)
    monkeypatch.chdir(home)
    with pytest.raises(OutputError, match="working directory"):
        wconv.convert(model, home, overwrite=True)
    assert (home / "thesis.tex").exists()


def test_disk_space_is_checked_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="are needed"):
        wconv.convert(llama(tmp_path / "m"), tmp_path / "o")
    nothing_left(tmp_path / "o")


def test_one_file_becomes_one_file(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", {"a": random((3, 3))}, {"who": "me"})
    report = wconv.convert(source, dtype="float32")
    assert report.output == tmp_path / "x-MLX.safetensors"
    assert str(wconv.load(report.output)["a"].dtype) == "float32"
    with safe_open(report.output, "np") as file:
        assert file.metadata() == {"who": "me", "format": "pt"}
    assert sorted(os.listdir(tmp_path)) == ["x-MLX.safetensors", "x.safetensors"]
    wconv.convert(source, tmp_path / "dir")
    assert sorted(os.listdir(tmp_path / "dir")) == ["model.safetensors", "model.safetensors.index.json"]


def test_the_default_output_of_a_hub_snapshot_has_the_models_name(tmp_path: Path, monkeypatch: Any) -> None:
    snapshot = tmp_path / "models--org--Tiny-7B" / "snapshots" / "abc"
    llama(snapshot)
    monkeypatch.chdir(tmp_path)
    assert wconv.convert(snapshot).output == Path("Tiny-7B-MLX")
    monkeypatch.chdir(llama(tmp_path / "here"))
    assert wconv.convert(".").output == tmp_path / "here-MLX"


def test_a_process_pool_can_do_it(tmp_path: Path) -> None:
    wconv.convert(FIXTURE, tmp_path / "a", dtype="float16")
    with ProcessPoolExecutor(2) as executor:
        wconv.convert(FIXTURE, tmp_path / "b", dtype="float16", executor=executor)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_directory_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"
    partial = tmp_path / "o.partial"
    partial.mkdir()
    (partial / "diary").write_text("mine")
    for more in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="not of wconv's making"):
            wconv.convert(model, out, **more)  # type: ignore[arg-type]
    assert (partial / "diary").read_text() == "mine"


def test_two_runs_do_not_write_the_same_output(tmp_path: Path) -> None:
    out = tmp_path / "o"
    one = workspace.Workspace(out, "x", overwrite=False, resume=False)
    with one, pytest.raises(OutputError, match="another wconv"):
        workspace.Workspace(out, "x", overwrite=True, resume=False)


def test_a_failure_leaves_nothing_but_what_can_be_resumed(tmp_path: Path, monkeypatch: Any) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"

    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises((OutputError, OSError)):
        wconv.convert(model, out)
    monkeypatch.undo()
    assert not out.exists()
    wconv.convert(model, out, resume=Path(f"{out}.partial").exists())


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    model, out = llama(tmp_path / "m"), tmp_path / "o"
    prepared = wconv.prepare(model, out)
    (model / "model.safetensors").touch()
    with pytest.raises(WconvError, match="changed while"):
        wconv.run(prepared)
    assert not out.exists()


def test_a_half_converted_checkpoint_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "m"
    shutil.copytree(FIXTURE, model)
    (model / "model.safetensors.index.json").unlink()
    for path in model.glob("*.safetensors"):
        tensors = {
            name.replace("visual.", "vision_tower.") if "blocks.0" in name else name: array
            for name, array in wconv.load(path).items()
        }
        write_file(path, tensors)
    with pytest.raises(WconvError):
        wconv.convert(model, tmp_path / "o")
    nothing_left(tmp_path / "o")


def test_converting_the_result_again_changes_nothing(tmp_path: Path) -> None:
    wconv.convert(FIXTURE, tmp_path / "a", dtype="float16")
    report = wconv.convert(tmp_path / "a", tmp_path / "b")
    first, second = wconv.load(tmp_path / "a"), wconv.load(tmp_path / "b")
    assert {name: bits(array) for name, array in first.items()} == {
        name: bits(array) for name, array in second.items()
    }
    assert any("already" in note for note in report.notes)
