"""Every public object prints on one line that fits a terminal; checkpoints are context managers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.consumers import layout_choice, registry
from wconv.examine.receipt_check import ReceiptCheck
from wconv.formats.modules import Module
from wconv.lora import read
from wconv.stores import files
from wconv.tensors import dtypes
from wconv.tensors.lazy import from_array
from wconv.wording import WIDTH, fitted
from wconv.writing.plan import Entry

LONG = "x" * 1900


def objects(folder: Path) -> dict[str, Any]:
    deep = folder / ("d" * 200)
    deep.mkdir()
    source = write_file(deep / "model.safetensors", {"a\nb": random((4, 4)), LONG: random((1,) * 60)})
    prepared = wconv.prepare(source, deep / "out.safetensors")
    adapter = {f"q.lora_{side}.weight": random((4, 4), np.float32) for side in "AB"}
    lazy = from_array(np.zeros((1,) * 60))
    return {
        "inspection": wconv.inspect(source),
        "Checkpoint": wconv.open(source),
        "Conversion": prepared,
        "Plan": prepared.plan,
        "Shard": prepared.plan.shards[0],
        "Entry": Entry(LONG, lazy, lazy.dtype),
        "ConvertOptions": wconv.ConvertOptions(include="x" * 300, options={"a\nb": True}),
        "Quantize": wconv.Quantize(rules=("x" * 300 + "=8",)),
        "Report": wconv.run(prepared),
        "Diff": wconv.diff(source, source),
        "Scan": wconv.scan(source),
        "ReceiptCheck": ReceiptCheck(Path(LONG), Path(LONG), 0, 0),
        "Verification": wconv.verify(deep / "out.safetensors", source),
        "Layout": layout_choice.layout_of_model_type("qwen2_5_vl"),
        "Module": Module(LONG),
        "Lora": read.read(str(write_file(deep / "adapter.safetensors", adapter))),
        "in memory": lazy,
        "cast": lazy.cast("fp16"),
        "stored": wconv.open(source)[LONG],
        **{row.name: row for row in dtypes.TABLE},
    }


def test_every_public_object_fits_a_line(tmp_path: Path) -> None:
    for what, value in objects(tmp_path).items():
        shown = repr(value)
        assert shown.isprintable(), what
        assert 0 < len(shown) <= WIDTH == 120, what
    for layout in [one for name in registry.automatic_names() for one in registry.tables(name)]:
        assert len(repr(layout)) <= WIDTH


def test_the_names_that_are_exported_are_all_tried(tmp_path: Path) -> None:
    tried = {type(value).__name__ for value in objects(tmp_path).values()}
    classes = {name for name in wconv.__all__ if isinstance(getattr(wconv, name), type)}
    assert {name for name in classes if not name.endswith("Error")} - tried == {"LazyTensor"}


def test_a_repr_tells_what_it_is(tmp_path: Path) -> None:
    source = write_file(tmp_path / "m.safetensors", {"a": random((4, 4))})
    assert repr(dtypes.by_name("bfloat16")) == "<DType bfloat16>"
    assert repr(wconv.open(source)["a"]) == "FileTensor(bfloat16, (4, 4))"
    assert repr(wconv.open(source)).endswith("m.safetensors: safetensors, 1 tensor>")
    assert repr(layout_choice.layout_of_model_type("qwen2_5_vl")).startswith("<Layout of mlx-vlm")


@pytest.mark.parametrize("text", ["", "short", "x" * 120, "y" * 121, "a\nb\x1b[2J" * 300])
def test_a_text_is_fitted_by_its_middle(text: str) -> None:
    shown = fitted(text)
    assert len(shown) <= WIDTH
    assert shown.isprintable()
    if len(text) <= WIDTH and text.isprintable():
        assert shown == text
    else:
        assert (shown[0], shown[-1], " … " in shown) == (text[0], text[-1], True)


def test_a_checkpoint_closes_its_files_when_its_block_ends(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": random((4, 4))}, {"b": random((4, 4))}])
    with wconv.open(model) as checkpoint:
        values = checkpoint["a"].numpy()
        assert any(str(model) in path for path in files._open)
    assert not any(str(model) in path for path in files._open)
    assert np.array_equal(checkpoint["a"].numpy().view("u2"), values.view("u2"))
