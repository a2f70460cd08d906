"""A pipeline's directory is converted as one: every component by its own rules, and all files beside them.

Covers `consumers/pipelines.py`, `consumers/component_family.py`, `conversion/pipeline.py`,
`conversion/own_form.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import wconv
from tests.making import bits, random
from wconv.cli.program import main
from wconv.errors import WconvError
from wconv.writing import shard_file, writer
from wconv.writing.shard_file import Written

STEM = "diffusion_pytorch_model"


def component(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], file: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    save_file(dict(tensors), path / f"{file}.safetensors", {"format": "pt"})


def transformer(seed: int = 0, dtype: Any = ml_dtypes.bfloat16) -> dict[str, Any]:
    block = "transformer_blocks.0.attn"
    return {
        "x_embedder.weight": random((8, 4), dtype, seed),
        "time_guidance_embed.timestep_embedder.linear_1.weight": random((8, 8), dtype, seed + 1),
        f"{block}.to_q.weight": random((8, 8), dtype, seed + 2),
        f"{block}.to_out.0.weight": random((8, 8), dtype, seed + 3),
    }


def autoencoder(seed: int = 10, dtype: Any = np.float32) -> dict[str, Any]:
    return {
        "bn.running_mean": random((8,), dtype, seed),
        "bn.num_batches_tracked": np.array(7),
        "decoder.conv_in.weight": random((8, 4, 3, 2), dtype, seed + 1),
        "decoder.mid_block.attentions.0.to_out.0.weight": random((8, 8), dtype, seed + 2),
    }


def text_encoder() -> dict[str, Any]:
    return {
        "model.embed_tokens.weight": random((40, 16), seed=20),
        "model.norm.weight": random((16,), seed=21),
        "lm_head.weight": random((40, 16), seed=20),
    }


def pipeline(path: Path) -> Path:
    """FLUX.2 in small, with the single-file copy that its repository has too."""
    component(path / "transformer", {"_class_name": "Flux2Transformer2DModel"}, transformer(), STEM)
    component(path / "vae", {"_class_name": "AutoencoderKLFlux2"}, autoencoder(), STEM)
    qwen = {"model_type": "qwen3", "tie_word_embeddings": True}
    component(path / "text_encoder", qwen, text_encoder(), "model")
    for name, file in {"tokenizer": "tokenizer.json", "scheduler": "scheduler_config.json"}.items():
        (path / name).mkdir()
        (path / name / file).write_text("{}")
    (path / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "Flux2KleinPipeline",
                "is_distilled": True,
                "image_encoder": [None, None],
                "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
                "text_encoder": ["transformers", "Qwen3ForCausalLM"],
                "tokenizer": ["transformers", "Qwen2TokenizerFast"],
                "transformer": ["diffusers", "Flux2Transformer2DModel"],
                "vae": ["diffusers", "AutoencoderKLFlux2"],
            }
        )
    )
    save_file(transformer(), path / "flux-2-klein.safetensors")
    return path


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def contents(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in files(path)}


def test_every_component_by_its_own_rules_and_the_rest_as_it_is(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    report = wconv.convert(source, out, dtype="float16")
    index = f"{STEM}.safetensors"
    assert files(out) == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/model.safetensors.index.json",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        f"transformer/{index}",
        "vae/config.json",
        f"vae/{index}",
    ]
    for name, tensors in (("transformer", transformer()), ("vae", autoencoder())):
        got = load_file(out / name / index)
        assert got.keys() == tensors.keys()
        for key, array in tensors.items():
            cast = array.astype(np.float16) if array.dtype != np.int64 else array
            assert bits(got[key]) == bits(cast)
    assert set(load_file(out / "text_encoder/model.safetensors")) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
    }
    assert report.model_type == "Flux2KleinPipeline"
    assert set(report.components) == {"transformer", "vae", "text_encoder"}
    assert "laid out for mlx-lm" in report.components["text_encoder"]
    assert "unchanged" in report.components["transformer"]
    assert report.dropped == {"text_encoder/lm_head.weight": "tied to the embedding"}
    assert report.left_out == {"flux-2-klein.safetensors": "the components hold the same weights"}
    assert (report.tensors_read, report.tensors_written) == (11, 10)
    assert not os.path.lexists(f"{out}.partial")


def test_mfluxs_own_form(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    report = wconv.convert(source, out, layout="mflux", max_shard_size=200)
    assert report.layout == "mflux"
    index = json.loads((out / "transformer/model.safetensors.index.json").read_text())
    said = {"quantization_level": "None", "mflux_version": "0.24.0"}
    assert index["metadata"] == said
    assert sorted(set(index["weight_map"].values())) == ["0.safetensors", "1.safetensors", "2.safetensors"]
    with safe_open(out / "transformer/0.safetensors", "np") as file:
        assert file.metadata() == said
    vae = wconv.load(out / "vae")
    expected = autoencoder()
    conv = expected["decoder.conv_in.weight"].transpose(0, 2, 3, 1).astype(ml_dtypes.bfloat16)
    assert bits(vae["decoder.conv_in.weight"]) == bits(conv)
    assert "decoder.mid_block.attentions.0.to_out.weight" in vae
    assert report.dropped["vae/bn.num_batches_tracked"]
    for name in ("transformer", "vae", "text_encoder"):
        assert (out / name / "config.json").read_bytes() == (source / name / "config.json").read_bytes()


def test_a_dtype_that_is_asked_for_goes_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    wconv.convert(pipeline(tmp_path / "flux"), out, layout="mflux", dtype="float32")
    assert {array.dtype.name for array in load_file(out / "vae/0.safetensors").values()} == {"float32"}


def test_a_component_by_itself_is_known_by_its_config(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    wconv.convert(source / "vae", tmp_path / "vae", layout="mflux")
    whole = wconv.convert(source, tmp_path / "out", layout="mflux").output
    assert load_file(tmp_path / "vae/0.safetensors").keys() == load_file(whole / "vae/0.safetensors").keys()


def test_an_autoencoder_that_several_models_share_is_refused_alone(tmp_path: Path) -> None:
    component(tmp_path / "vae", {"_class_name": "AutoencoderKL"}, autoencoder(), STEM)
    with pytest.raises(WconvError, match=r"a part of flux or z_image.*--component"):
        wconv.convert(tmp_path / "vae", layout="mflux")


def test_a_component_that_the_consumer_does_not_know_keeps_its_names(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    tensors = {"language_model.model.norm.weight": random((16,))}
    component(source / "text_encoder", {"model_type": "mistral9"}, tensors, "model")
    report = wconv.convert(source, out, layout="mflux")
    assert "text_encoder: mflux has no layout of a mistral9 in this place" in report.notes
    assert "unchanged" in report.components["text_encoder"]
    assert load_file(out / "text_encoder/model.safetensors").keys() == tensors.keys()
    assert (out / "transformer/0.safetensors").is_file()


def test_components_can_be_picked(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    done = CliRunner().invoke(
        main, [str(source), "-o", str(out), "--component", "vae", "--component", "tokenizer"]
    )
    assert done.exit_code == 0, done.output
    assert files(out) == [
        "model_index.json",
        "tokenizer/tokenizer.json",
        "vae/config.json",
        f"vae/{STEM}.safetensors",
    ]
    assert "left out (not among --component): scheduler, text_encoder, transformer" in done.output
    with pytest.raises(WconvError, match="no component 'unet': it has"):
        wconv.convert(source, tmp_path / "other", component=["unet"])
    with pytest.raises(WconvError, match="has no components"):
        wconv.convert(source / "vae", tmp_path / "other", component=["vae"])


def test_a_variant_is_picked_where_there_is_one(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    half = transformer(30, np.float16)
    save_file(half, source / "transformer" / f"{STEM}.fp16.safetensors")
    names = list(autoencoder())
    weight_map = {}
    for number, part in enumerate((names[:2], names[2:]), 1):
        file = f"{STEM}.fp16-{number:05d}-of-00002.safetensors"
        save_file({name: autoencoder(40)[name] for name in part}, source / "vae" / file)
        weight_map.update(dict.fromkeys(part, file))
    index = source / "vae" / f"{STEM}.safetensors.index.fp16.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    report = wconv.convert(source, out, variant="fp16")
    got = load_file(out / "transformer" / f"{STEM}.safetensors")
    assert bits(got["x_embedder.weight"]) == bits(half["x_embedder.weight"])
    assert bits(wconv.load(out / "vae")["bn.running_mean"]) == bits(autoencoder(40)["bn.running_mean"])
    assert "text_encoder: there is no fp16 variant, the plain weights are taken" in report.notes
    assert not [name for name in files(out) if "fp16" in name]
    plain = wconv.convert(source, tmp_path / "plain").output
    got = load_file(plain / "transformer" / f"{STEM}.safetensors")
    assert bits(got["x_embedder.weight"]) == bits(transformer()["x_embedder.weight"])
    assert not [name for name in files(plain) if "fp16" in name]
    with pytest.raises(WconvError, match="variant ema"):
        wconv.convert(source, tmp_path / "other", variant="ema")
    with pytest.raises(WconvError, match="no ema variant"):
        wconv.convert(source / "vae", tmp_path / "other", variant="ema")


def test_an_interrupted_pipeline_is_resumed_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    whole = contents(wconv.convert(source, tmp_path / "whole", layout="mflux").output)
    complete = shard_file.ShardFile._complete

    def stopped(output: Any) -> None:
        complete(output)
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_file.ShardFile, "_complete", stopped)
    with pytest.raises(KeyboardInterrupt):
        wconv.convert(source, out, layout="mflux", jobs=1)
    monkeypatch.undo()
    assert not out.exists()
    report = wconv.convert(source, out, layout="mflux", resume=True)
    assert len(report.resumed) == 1
    assert contents(out) == whole
    assert not os.path.lexists(f"{out}.partial")
    wconv.convert(source, out, overwrite=True)
    assert (out / "vae" / f"{STEM}.safetensors").is_file()


def test_overflows_are_told_with_their_component(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    tensors = autoencoder() | {"bn.running_mean": np.full(8, 1e6, np.float32)}
    save_file(tensors, source / "vae" / f"{STEM}.safetensors")
    report = wconv.convert(source, tmp_path / "out", dtype="float16")
    assert set(report.overflows) == {"vae/bn.running_mean"}


def test_a_table_that_does_not_fit_leaves_a_component_as_it_is(tmp_path: Path) -> None:
    source, out = pipeline(tmp_path / "flux"), tmp_path / "out"
    odd = text_encoder() | {"model.layers.0.adapter.weight": random((4, 4))}
    save_file(odd, source / "text_encoder/model.safetensors", {"format": "pt"})
    report = wconv.convert(source, out)
    assert load_file(out / "text_encoder/model.safetensors").keys() == odd.keys()
    assert any("text_encoder: names and layouts unchanged" in note for note in report.notes)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ({"../other": ["diffusers", "Model"]}, "no plain directory"),
        ({"controlnet": ["diffusers", "Model"]}, "controlnet is missing: model_index.json lists it"),
    ],
)
def test_a_wrong_index_is_refused(harm: dict[str, Any], words: str, tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps(index | harm))
    with pytest.raises(WconvError, match=words):
        wconv.convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_weights_and_unknown_pipelines_are_refused(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    (source / "vae" / f"{STEM}.safetensors").unlink()
    with pytest.raises(WconvError, match="vae holds no weights"):
        wconv.convert(source, tmp_path / "out")
    index = json.loads((source / "model_index.json").read_text())
    (source / "model_index.json").write_text(json.dumps(index | {"_class_name": "Flux9Pipeline"}))
    with pytest.raises(WconvError, match="mflux has no layout of a Flux9Pipeline"):
        wconv.convert(source, tmp_path / "out", layout="mflux")
    with pytest.raises(WconvError, match="several components"):
        wconv.convert(source, tmp_path / "out.safetensors")


def test_files_that_tell_the_model_by_their_names(tmp_path: Path) -> None:
    source = tmp_path / "repository"
    source.mkdir()
    save_file({"vid_in.proj.weight": random((4, 4))}, source / "seedvr2_ema_3b_fp16.safetensors")
    with pytest.raises(WconvError, match="lacks the vae"):
        wconv.convert(source, tmp_path / "out", layout="mflux")
    save_file({"decoder.conv_in.weight": random((8, 16, 3, 2, 2))}, source / "ema_vae_fp16.safetensors")
    report = wconv.convert(source, tmp_path / "out", layout="mflux")
    assert files(tmp_path / "out") == [
        f"{name}/{file}"
        for name in ("transformer", "vae")
        for file in ("0.safetensors", "model.safetensors.index.json")
    ]
    assert set(report.components) == {"transformer", "vae"}
    save_file({"vid_in.proj.weight": random((4, 4))}, source / "seedvr2_ema_7b_fp16.safetensors")
    with pytest.raises(WconvError, match="both a transformer of seedvr2"):
        wconv.convert(source, tmp_path / "other", layout="mflux")


def test_laying_out_twice_changes_nothing(tmp_path: Path) -> None:
    once = wconv.convert(pipeline(tmp_path / "flux"), tmp_path / "once", layout="mflux").output
    twice = wconv.convert(once, tmp_path / "twice", layout="mflux").output
    assert contents(once) == contents(twice)


def test_a_finished_shard_is_found_under_its_own_name(tmp_path: Path) -> None:
    prepared = wconv.prepare(pipeline(tmp_path / "flux"), tmp_path / "out", layout="mflux")
    names = [shard.filename for shard in prepared.plan.shards]
    assert names == ["text_encoder/0.safetensors", "transformer/0.safetensors", "vae/0.safetensors"]
    (tmp_path / "p/output").mkdir(parents=True)
    (written,) = writer.write(prepared.plan.shards[:1], tmp_path / "p")
    assert shard_file.finished(tmp_path / "p", prepared.plan.shards[0]) == written
    assert isinstance(written, Written)
    assert shard_file.finished(tmp_path / "p", prepared.plan.shards[1]) is None


def test_a_pipeline_is_opened_by_its_components(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    with pytest.raises(WconvError, match=r"is a pipeline: open its components, such as .*/transformer"):
        wconv.open(source)
    assert set(wconv.open(source / "transformer")) == set(transformer())


def test_the_summary_says_how_mflux_loads_the_whole(tmp_path: Path) -> None:
    report = wconv.convert(pipeline(tmp_path / "flux"), tmp_path / "out", layout="mflux")
    assert report.command == f"mflux-generate-flux2 --model {tmp_path}/out --prompt 'A cat'"
    kept = wconv.convert(tmp_path / "flux", tmp_path / "kept", layout="diffusers")
    assert kept.command == f"diffusers.DiffusionPipeline.from_pretrained('{tmp_path}/kept')"
    name = f"vae/{STEM}.safetensors"
    assert contents(kept.output)[name] == contents(tmp_path / "flux")[name]
