"""`wconv MODEL --format gguf` writes the file that llama.cpp's converter makes of the original."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import wconv
from tests.oracle import no_torch, tiny
from tests.oracle.tiny import Tiny
from tests.oracles import directory_of, oracle
from wconv.cli.program import main

pytestmark = pytest.mark.oracle

WITH_TORCH = "from wconv.gguf.converter import run; run()"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small Llama as it is published, with a vocabulary of sentencepiece's, which the converter knows."""
    trainer = oracle("sentencepiece").SentencePieceTrainer
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"the {a} of {b} is {a}{b}" for a in "abcdefgh" for b in "ijklmnop"))
    tiny_llama = Tiny("llama")
    placed = tiny.as_published(tiny.save(tiny_llama, tmp_path / "saved"), tiny_llama, tmp_path / "llama")
    for path in placed.glob("tokenizer*"):
        path.unlink()
    trainer.train(
        input=str(text),
        model_prefix=str(placed / "tokenizer"),
        vocab_size=64,
        hard_vocab_limit=False,
        minloglevel=2,
        bos_id=1,
        eos_id=2,
    )
    (placed / "tokenizer.vocab").unlink()
    return placed


def by_converter(model: Path, out: Path, outtype: str, packages: str, name: str) -> bytes:
    """What the converter itself makes with PyTorch."""
    arguments = [
        "-c",
        WITH_TORCH,
        str(model),
        "--outtype",
        outtype,
        "--outfile",
        str(out),
        "--model-name",
        name,
    ]
    no_torch.succeed(
        no_torch.run(None, arguments, model.parent, {"PYTHONPATH": f"{packages}:{no_torch.ROOT}"})
    )
    return out.read_bytes()


@pytest.mark.parametrize(
    ("options", "outtype"),
    [([], "auto"), (["--dtype", "float16"], "f16"), (["--option", "outtype=q8_0"], "q8_0")],
)
def test_the_bytes_are_the_converters_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], outtype: str
) -> None:
    packages = directory_of("gguf")
    monkeypatch.syspath_prepend(packages)
    made = tmp_path / "mine.gguf"
    wconv.convert(model, tmp_path / "llama-MLX")
    done = CliRunner().invoke(main, [str(tmp_path / "llama-MLX"), "-o", str(made), *options])
    assert done.exit_code == 0, done.output
    assert made.read_bytes() == by_converter(model, tmp_path / "own.gguf", outtype, packages, "llama-MLX")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_quantized_model_is_made_dense_first(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = directory_of("gguf")
    monkeypatch.syspath_prepend(packages)
    small = tmp_path / "small"
    wconv.convert(model, small, quantize=wconv.Quantize(bits=4, group_size=32))
    done = CliRunner().invoke(main, [str(small), "--format", "gguf"])
    assert done.exit_code == 0, done.output
    wconv.convert(small, tmp_path / "dense", layout="hf", dequantize=True)
    own = by_converter(tmp_path / "dense", tmp_path / "own.gguf", "auto", packages, "small")
    assert (tmp_path / "small.gguf").read_bytes() == own


def test_a_model_that_the_converter_does_not_know_is_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(directory_of("gguf"))
    other = shutil.copytree(model, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodysForCausalLM"))
    done = CliRunner().invoke(main, [str(other), "--format", "gguf"])
    assert done.exit_code == 1
    assert "NobodysForCausalLM" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "other.gguf").exists()
