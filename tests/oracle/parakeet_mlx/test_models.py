"""parakeet-mlx has no sanitize: a model in its names passes unchanged, cast, and is loaded by it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.consumers import assert_same_parameters
from tests.oracles import directory_of, oracle

pytestmark = pytest.mark.oracle

CONFIG: dict[str, Any] = {
    "target": "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE",
    "preprocessor": {
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "window": "hann",
        "features": 16,
        "n_fft": 32,
        "dither": 0.0,
    },
    "encoder": {
        "feat_in": 16,
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 4,
        "ff_expansion_factor": 2,
        "subsampling_factor": 4,
        "self_attention_model": "rel_pos",
        "subsampling": "dw_striding",
        "conv_kernel_size": 3,
        "subsampling_conv_channels": 8,
        "pos_emb_max_len": 64,
    },
    "decoder": {"feat_in": 32, "num_classes": 4, "vocabulary": ["a", "b", "c", "d"]},
    "decoding": {"greedy": None},
}


def without_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program takes the filters of its spectrogram from there, which are no weights."""
    librosa, filters = ModuleType("librosa"), ModuleType("librosa.filters")
    filters.mel = lambda **_: np.zeros((16, 17), np.float32)  # type: ignore[attr-defined]
    librosa.filters = filters  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "librosa", librosa)
    monkeypatch.setitem(sys.modules, "librosa.filters", filters)


def test_a_model_in_its_names_passes_and_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(directory_of("parakeet-mlx"))
    mx, utils = oracle("mlx.core"), oracle("mlx.utils")
    without_librosa(monkeypatch)
    parakeet = oracle("parakeet_mlx.utils")
    made = parakeet.from_config(json.loads(json.dumps(CONFIG)))
    source = tmp_path / "source"
    source.mkdir()
    mx.save_safetensors(str(source / "model.safetensors"), dict(utils.tree_flatten(made.parameters())))
    (source / "config.json").write_text(json.dumps(CONFIG))
    wconv.convert(source, tmp_path / "out", dtype="float16")
    theirs = parakeet.from_pretrained(str(source), dtype=mx.float16)
    ours = parakeet.from_pretrained(str(tmp_path / "out"), dtype=mx.float16)
    expected = dict(utils.tree_flatten(theirs.parameters()))
    assert_same_parameters(dict(utils.tree_flatten(ours.parameters())), expected)
    written = mx.load(str(tmp_path / "out" / "model.safetensors"))
    assert {array.dtype for array in written.values()} == {mx.float16}
    assert written.keys() == expected.keys()
