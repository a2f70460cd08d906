"""mlx-lm and mlx-vlm as oracles: what they make of a checkpoint, and what a converted one computes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.oracles import oracle

VOCABULARY = 272
IDS = [[3, 17, 200, 45, 5, 120, 9, 31]]


def mlx_lm_conversion(source: Path, to: Path) -> Path:
    """`mlx_lm.convert --dtype float16`."""
    oracle("mlx_lm")
    with silence():
        oracle("mlx_lm.convert").convert(str(source), str(to), dtype="float16")
    return to


def mlx_lm_model(path: Path) -> Any:
    """The model as `mlx_lm.load` makes it, its tokenizer included."""
    with silence():
        model, _ = oracle("mlx_lm").load(str(path))
    return model


def assert_transformers_reads_the_same(got: Path, expected: Path) -> None:
    """The fields that were added to config.json do not change what transformers makes of it."""
    read = oracle("transformers").AutoConfig.from_pretrained
    ours, theirs = (read(path).to_dict() for path in (got, expected))
    for part in ("text_config", "vision_config", None):
        one, other = (config if part is None else config.get(part, {}) for config in (ours, theirs))
        for name in {"rope_parameters", "hidden_size", "num_experts", "layer_types"} & other.keys():
            assert without_type(one.get(name)) == without_type(other[name]), f"{part}: {name}"
    assert ours.get("tie_word_embeddings") == theirs.get("tie_word_embeddings")


def without_type(value: Any) -> Any:
    """`rope_parameters` without `type`, which older programs want beside `rope_type`."""
    return {key: value[key] for key in value if key != "type"} if isinstance(value, dict) else value


def parameters(model: Any) -> dict[str, Any]:
    """Every parameter by its path."""
    return dict(oracle("mlx.utils").tree_flatten(model.parameters()))


def stored(path: Path) -> dict[str, Any]:
    """Every tensor in a model directory's files."""
    mx = oracle("mlx.core")
    return {
        name: array
        for shard in path.glob("model*.safetensors")
        for name, array in mx.load(str(shard)).items()
    }


def logits(model: Any, *, wide: bool = False) -> Any:
    """The logits for some text; `wide` computes in float32, the only dtype for experts without a GPU."""
    mx = oracle("mlx.core")
    if wide:
        model.set_dtype(mx.float32)
    return model(mx.array(IDS))


def assert_same_parameters(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Same paths, dtypes, shapes and bits."""
    mx = oracle("mlx.core")
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        assert mx.array_equal(got[name], array, equal_nan=True), name


def assert_same_logits(got: Any, expected: Any) -> None:
    """Equal in every bit, and worth comparing: one for each word, and no NaN."""
    mx = oracle("mlx.core")
    assert expected.shape[-1] == VOCABULARY
    assert not mx.any(mx.isnan(expected))
    assert mx.array_equal(got, expected)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without the consumers' progress bars and notes."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def mlx_vlm_conversion(source: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`mlx_vlm.convert --dtype float16`, without its processor where the model has none."""
    if not (source / "preprocessor_config.json").exists():
        monkeypatch.setattr(oracle("mlx_vlm.utils"), "load_processor", lambda *_, **__: object())
    with silence():
        oracle("mlx_vlm.convert").convert(str(source), str(to), dtype="float16")
    return to


def mlx_vlm_model(path: Path) -> Any:
    """The model as `mlx_vlm.load` makes it."""
    with silence():
        return oracle("mlx_vlm.utils").load_model(path)


def text_logits(model: Any, *, wide: bool = False) -> Any:
    """The logits of a vision-language model for text alone."""
    return logits(model.language_model, wide=wide).logits
