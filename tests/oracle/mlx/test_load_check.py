"""`--verify=load`: the programs themselves load what was converted, and compute finite logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.oracles import directory_of, oracle, run_script
from wconv.examine.load_check import load_check

pytestmark = pytest.mark.oracle

MODEL = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"


@pytest.mark.parametrize("layout", ["mlx-lm", "mlx-vlm", "hf"])
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_the_fixture_loads(tmp_path: Path, layout: str, dtype: str | None) -> None:
    oracle("mlx_lm"), oracle("mlx_vlm")
    wconv.convert(MODEL, tmp_path / "out", layout=layout, dtype=dtype)
    found = load_check(tmp_path / "out", None if layout == "hf" else layout)
    assert found.loads, found.error
    assert found.program.startswith("mlx-lm" if layout == "mlx-lm" else "mlx-vlm")
    assert found.logits == (1, 8, 272)
    held = sum(tensor.size for tensor in wconv.open(tmp_path / "out").values())
    assert found.parameters == held


def test_a_quantized_one_loads(tmp_path: Path) -> None:
    oracle("mlx_lm")
    wconv.convert(MODEL, tmp_path / "out", layout="mlx-lm", quantize=wconv.Quantize(bits=4, group_size=32))
    assert load_check(tmp_path / "out", "mlx-lm").loads


def test_a_missing_tensor_and_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    oracle("mlx_lm")
    out = tmp_path / "out"
    wconv.convert(MODEL, out, layout="mlx-lm")
    tensors = wconv.load(out)
    for path in out.glob("model*"):
        path.unlink()
    name = next(name for name in tensors if name.endswith("layers.1.mlp.up_proj.weight"))
    good = tensors.pop(name)
    wconv.save(tensors, out / "model.safetensors", {"format": "mlx"})
    found = load_check(out, "mlx-lm")
    assert not found.loads
    assert "up_proj" in found.error
    tensors[name] = np.full_like(good, np.nan)
    wconv.save(tensors, out / "model.safetensors", {"format": "mlx"})
    found = load_check(out, "mlx-lm")
    assert (found.error, found.loads) == ("", False)
    assert found.not_finite == 8 * 272


def test_a_whisper_loads(tmp_path: Path) -> None:
    packages = directory_of("mlx-whisper")
    torch, transformers = oracle("torch"), oracle("transformers")
    from tests.oracle.mlx_whisper.test_whisper import CONFIG

    torch.manual_seed(0)
    config = transformers.WhisperConfig(**CONFIG)
    transformers.WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "hub")
    wconv.convert(tmp_path / "hub", tmp_path / "out", layout="mlx-whisper")
    script = tmp_path / "load.py"
    script.write_text(
        # its tokenizer and its compiler are not needed for the model
        "import sys\n"
        "from types import ModuleType\n"
        "sys.path.append(sys.argv[2])\n"
        "package = sys.modules['mlx_whisper'] = ModuleType('mlx_whisper')\n"
        "package.__path__ = [sys.argv[2] + '/mlx_whisper']\n"
        "from importlib.machinery import ModuleSpec\n"
        "package.__spec__ = ModuleSpec('mlx_whisper', None)\n"
        "sys.modules['tiktoken'] = ModuleType('tiktoken')\n"
        "sys.modules['tiktoken'].Encoding = object\n"
        "from wconv.examine.load_check import load_check\n"
        "found = load_check(sys.argv[1], 'mlx-whisper')\n"
        "assert found.loads and found.logits == (1, 8, 272), (found.error, found.logits)\n"
    )
    run_script(script, str(tmp_path / "out"), packages, beside=str(Path(wconv.__file__).parents[1]))
