"""Models of several components that are quantized, copied and made dense again in a program's own form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wconv
from tests.cli.running import run
from tests.making import random, write_directory
from wconv.consumers.quantization import Quantize
from wconv.errors import WconvError

BLOCK = "transformer_blocks.0"


def pipeline(path: Path) -> Path:
    linear = ("attn.to_q", "attn.to_k", "img_mod.1", "txt_mod.1")
    parts = {
        "transformer": ({f"{BLOCK}.{name}.weight": random((64, 128)) for name in linear}, "_class_name"),
        "text_encoder": ({"model.layers.0.self_attn.q_proj.weight": random((64, 64))}, "model_type"),
        "vae": ({"quant_conv.weight": random((8, 8, 1, 1, 1))}, "_class_name"),
    }
    kinds = ("QwenImageTransformer2DModel", "qwen2_5_vl", "AutoencoderKLQwenImage")
    for (name, (tensors, key)), kind in zip(parts.items(), kinds, strict=True):
        write_directory(path / name, [tensors], {key: kind})
    index = {name: ["diffusers", kind] for name, kind in zip(parts, kinds, strict=True)}
    (path / "model_index.json").write_text(json.dumps({"_class_name": "QwenImagePipeline", **index}))
    return path


def level(path: Path) -> str:
    """What the header and the index of a component say of its bits: the same."""
    said: str = json.loads((path / "model.safetensors.index.json").read_text())["metadata"][
        "quantization_level"
    ]
    assert wconv.open(path / "0.safetensors").metadata["quantization_level"] == said
    return said


def test_the_family_decides_and_every_component_says_the_bits(tmp_path: Path) -> None:
    out = tmp_path / "q"
    report = wconv.convert(pipeline(tmp_path / "m"), out, layout="mflux", quantize=Quantize(bits=4))
    held = {name: wconv.load(out / name / "0.safetensors") for name in ("transformer", "text_encoder", "vae")}
    assert held["transformer"][f"{BLOCK}.attn.to_q.weight"].shape == (64, 128 * 4 // 32)
    # this family's modulation gets 8 bits in a model of 4, and its text encoder stays dense
    assert held["transformer"][f"{BLOCK}.img_mod_linear.weight"].shape == (64, 128 * 8 // 32)
    assert held["text_encoder"]["encoder.layers.0.self_attn.q_proj.weight"].shape == (64, 64)
    assert {level(out / name) for name in held} == {"4"}
    assert report.quantization is not None
    assert report.quantization.weights == {"4 bits in groups of 64": 3, "8 bits in groups of 64": 1}
    assert f"transformer/{BLOCK}.attn.to_q.weight" in report.quantization.errors
    sizes = report.quantization.sizes
    assert sizes["4 bits in groups of 64"] == report.quantization.nbytes
    assert sizes["8 bits in groups of 64"] > sizes["6 bits in groups of 64"] > report.quantization.nbytes


def test_a_report_tells_components_apart(tmp_path: Path) -> None:
    words = (
        pipeline(tmp_path / "m"),
        tmp_path / "q",
        "-q",
        "--layout",
        "mflux",
        "--q-report",
        tmp_path / "r",
    )
    assert run(*words).exit_code == 0
    told = json.loads((tmp_path / "r").read_text())["weights"]
    assert told[f"transformer/{BLOCK}.img_mod_linear.weight"]["bits"] == 8


def test_rules_name_components_and_are_told_where_no_component_has_such_a_layer(tmp_path: Path) -> None:
    rules = ("transformer/.*to_q=none", "img_mod=3", "nobody=8", "to_k=8", "to_k=6")
    report = wconv.convert(
        pipeline(tmp_path / "m"), tmp_path / "q", layout="mflux", quantize=Quantize(rules=rules)
    )
    held = wconv.load(tmp_path / "q" / "transformer" / "0.safetensors")
    assert held[f"{BLOCK}.attn.to_q.weight"].shape == (64, 128)
    assert held[f"{BLOCK}.attn.to_k.weight"].shape == (64, 128 * 6 // 32)
    assert report.quantization is not None
    assert report.quantization.unmatched == ("nobody=8",)
    assert report.quantization.overruled == ("to_k=8",)


def test_it_is_copied_decoded_and_quantized_anew(tmp_path: Path) -> None:
    source = tmp_path / "q"
    wconv.convert(pipeline(tmp_path / "m"), source, layout="mflux", quantize=Quantize(bits=4))
    wconv.convert(source, tmp_path / "copy", layout="mflux")
    dense = wconv.convert(source, tmp_path / "d", layout="mflux", dequantize=True)
    wconv.convert(source, tmp_path / "q8", layout="mflux", quantize=Quantize(bits=8))
    for name in ("transformer", "text_encoder", "vae"):
        one, other = (path / name / "0.safetensors" for path in (source, tmp_path / "copy"))
        assert one.read_bytes() == other.read_bytes()
        assert level(tmp_path / "d" / name) == "None"
        assert level(tmp_path / "q8" / name) == "8"
    held = wconv.load(tmp_path / "d" / "transformer" / "0.safetensors")
    assert {array.shape for array in held.values()} == {(64, 128)}
    assert dense.tensors_written == 6
    again = wconv.load(tmp_path / "q8" / "transformer" / "0.safetensors")
    assert again[f"{BLOCK}.attn.to_q.weight"].shape == (64, 128 * 8 // 32)


def as_the_program_saves(path: Path) -> Path:
    """Without what the hub's directories have beside the weights."""
    for file in (path / "model_index.json", *path.glob("*/config.json")):
        file.unlink()
    return path


@pytest.mark.parametrize("saved", [False, True])
def test_what_the_program_has_written_stays_in_its_form(saved: bool, tmp_path: Path) -> None:
    source, out = tmp_path / "q", tmp_path / "d"
    wconv.convert(pipeline(tmp_path / "m"), source, layout="mflux", quantize=Quantize(bits=4))
    if saved:
        as_the_program_saves(source)
    report = wconv.convert(source, out, dequantize=True)
    assert report.layout == "mflux"
    assert report.command == f"mflux-generate-qwen --model {out} --prompt 'A cat'"
    told = wconv.convert(pipeline(tmp_path / "n"), tmp_path / "n-d", layout="mflux")
    for name in ("transformer", "text_encoder", "vae"):
        assert level(out / name) == "None"
        assert wconv.load(out / name / "0.safetensors").keys() == (
            wconv.load(told.output / name / "0.safetensors").keys()
        )
    again = wconv.convert(source, tmp_path / "q8", quantize=Quantize(bits=8))
    assert again.quantization is not None
    assert again.quantization.weights == {"8 bits in groups of 64": 4}
    one = wconv.convert(source, tmp_path / "one", dequantize=True, component=["transformer"])
    assert one.shards == ("transformer/0.safetensors",)
    with pytest.raises(WconvError, match="has no component 'unet'"):
        wconv.convert(source, tmp_path / "o", component=["unet"])


@pytest.mark.parametrize("saved", [False, True])
def test_the_hubs_names_come_back_where_weights_are_made_dense(saved: bool, tmp_path: Path) -> None:
    source, out = tmp_path / "q", tmp_path / "hf"
    wconv.convert(pipeline(tmp_path / "m"), source, layout="mflux", quantize=Quantize(bits=4))
    if saved:
        as_the_program_saves(source)
    report = wconv.convert(source, out, layout="hf", dequantize=True)
    assert ("from_pretrained" in report.command) is not saved
    for name in ("transformer", "text_encoder", "vae"):
        assert wconv.open(out / name).keys() == wconv.open(tmp_path / "m" / name).keys()
        assert "quantization_level" not in wconv.open(out / name).metadata


def test_nothing_is_said_to_load_names_that_are_not_the_hubs(tmp_path: Path) -> None:
    source = tmp_path / "q"
    wconv.convert(pipeline(tmp_path / "m"), source, layout="mflux", quantize=Quantize(bits=4))
    report = wconv.prepare(source, tmp_path / "hf", layout="hf").report
    assert report.command == ""
    assert report.known.startswith("the tensors have mflux's names, which nothing undoes")


def test_directories_that_only_look_so_are_told_as_before(tmp_path: Path) -> None:
    source = tmp_path / "q"
    wconv.convert(pipeline(tmp_path / "m"), source, layout="mflux", quantize=Quantize(bits=4))
    as_the_program_saves(source)
    (source / "transformer").rename(source / "unet")
    with pytest.raises(WconvError, match="holds no weights"):
        wconv.convert(source, tmp_path / "d", dequantize=True)
    (source / "vae" / "0.safetensors").write_bytes(b"damaged")
    with pytest.raises(WconvError, match="holds no weights"):
        wconv.convert(source, tmp_path / "d", dequantize=True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-q", "--layout", "mflux", "--q-bits", "2"), "mflux does not have bits 2: it has 3, 4, 5, 6, 8"),
        (("-q", "--layout", "mflux", "--q-mode", "nvfp4"), "mflux stores affine quantization alone"),
        (("-q", "--layout", "mflux", "--q-rule", "to_q=4:32:mxfp4"), "affine quantization alone, not mxfp4"),
        (
            ("-q", "--layout", "mflux", "--quant-predicate", "mixed_2_6"),
            "does not have the mixed recipe",
        ),
        (("-q", "--layout", "mflux", "--component", "vae"), "-q found no weight to quantize in"),
        (("-q", "--component", "transformer"), "and no component of"),
        (("-d",), "holds no weights in few bits: leave -d"),
    ],
)
def test_bad_words_are_one_line_and_nothing_is_written(
    words: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    result = run(pipeline(tmp_path / "m"), tmp_path / "o", *words)
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_single_component_says_why_nothing_of_it_is_quantized(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "m") / "vae"
    with pytest.raises(WconvError, match=r"found no weight to quantize in .*: not a matrix: .* convolution"):
        wconv.convert(source, tmp_path / "o", layout="mflux", quantize=Quantize())
