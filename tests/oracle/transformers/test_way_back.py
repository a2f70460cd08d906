"""A converted model laid back as the hub has it: the source's own bits, and transformers loads them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import bits
from tests.oracle.consumers import IDS, silence
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle
from wconv.consumers.layout_choice import choose_layout
from wconv.layouts.apply import apply

pytestmark = pytest.mark.oracle

MODELS = [*language.PLAIN, *language_moe.MODELS, *vision.MODELS]

ROUNDED = ("qwen3_next", "qwen3_5", "qwen3_5_moe")
"""Models whose norms are shifted: bfloat16 cannot hold every sum, so that the way back is near, not equal."""


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_transformers_loads_the_round_trip(tiny: Tiny, tmp_path: Path) -> None:
    modern = save(tiny, tmp_path / "modern")
    published = as_published(modern, tiny, tmp_path / "published")
    there = wconv.convert(published).output
    report = wconv.convert(there, layout="hf")
    assert report.output == tmp_path / "published-HF"
    assert_same_tensors(hub_tensors(published), wconv.load(report.output), report, tiny)
    theirs = model(tiny, modern)
    assert_same_model(theirs, model(tiny, report.output), tiny)
    again = wconv.convert(wconv.convert(modern).output, layout="hf")
    assert_same_model(theirs, model(tiny, again.output), tiny)


def hub_tensors(path: Path) -> dict[str, Any]:
    """A model's tensors by the hub's names, where it is saved under newer ones."""
    opened = wconv.open(path)
    table = choose_layout("auto", opened.config, opened)
    assert table is not None
    return {
        name: tensor.numpy()
        for name, tensor in apply(replace(table, rules=(), names=("**",)), opened).tensors.items()
    }


def assert_same_tensors(before: dict[str, Any], after: dict[str, Any], report: Any, tiny: Tiny) -> None:
    """Every tensor's bits are back, and what is not is told."""
    lost = before.keys() - after.keys()
    assert after.keys() <= before.keys()
    told = " ".join(note for note in report.notes if "not restored" in note)
    assert all(name in told for name in lost), lost
    changed = {name for name in after if bits(before[name]) != bits(after[name])}
    if tiny.model_type in ROUNDED:
        assert changed
        for name in changed:
            assert "norm" in name
            assert bits(before[name] + np.ones(1, before[name].dtype)) == bits(
                after[name] + np.ones(1, after[name].dtype)
            )
        assert any("exact" in note for note in report.notes)
    else:
        assert not changed


def assert_same_model(theirs: Any, ours: Any, tiny: Tiny) -> None:
    torch = oracle("torch")
    expected, got = theirs.state_dict(), ours.state_dict()
    assert got.keys() == expected.keys()
    if tiny.model_type in ROUNDED:
        return
    with torch.no_grad():
        said = [one(input_ids=torch.tensor(IDS)).logits for one in (theirs, ours)]
    assert not said[0].isnan().any()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert torch.equal(*said)


def model(tiny: Tiny, path: Path) -> Any:
    """The model as transformers loads it: every tensor found, none left over."""
    transformers = oracle("transformers")
    with silence():
        loaded, told = getattr(transformers, tiny.auto).from_pretrained(path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["mismatched_keys"]
    assert not [name for name in told["unexpected_keys"] if not re.search("inv_freq|position_ids", name)]
    return loaded.eval()


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_a_model_in_the_hubs_layout_passes_unchanged(tiny: Tiny, tmp_path: Path) -> None:
    published = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    report = wconv.convert(published, layout="hf")
    before, after = wconv.load(published), wconv.load(report.output)
    assert report.layout is None
    assert {name: bits(array) for name, array in before.items()} == {
        name: bits(array) for name, array in after.items()
    }
