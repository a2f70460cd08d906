"""Depth Pro's checkpoint becomes what mflux's own loader makes of it, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracles import oracle
from wconv.consumers.layout_choice import choose_layout
from wconv.layouts.apply import LayoutResult, apply
from wconv.tensors.lazy import from_array

pytestmark = pytest.mark.oracle

WIDTH = 8
"""In place of Depth Pro's 256 to 1024 channels; all else has the true number and order of axes."""

VISION_TRANSFORMERS = ("encoder.patch_encoder", "encoder.image_encoder", "fov.encoder.0")
UPSAMPLERS = {"upsample_latent0": 4, "upsample_latent1": 3, "upsample0": 2, "upsample1": 2, "upsample2": 2}


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as in depth_pro.pt, but narrow; no two axes of a convolution are of one length."""
    for prefix in VISION_TRANSFORMERS:
        yield f"{prefix}.cls_token", (1, 1, WIDTH)
        yield f"{prefix}.pos_embed", (1, 5, WIDTH)
        yield from layer(f"{prefix}.patch_embed.proj", (WIDTH, 3, 4, 5))
        for block in range(24):
            for name, shape in {
                "norm1": (WIDTH,),
                "attn.qkv": (3 * WIDTH, WIDTH),
                "attn.proj": (WIDTH, WIDTH),
                "norm2": (WIDTH,),
                "mlp.fc1": (4 * WIDTH, WIDTH),
                "mlp.fc2": (WIDTH, 4 * WIDTH),
            }.items():
                yield from layer(f"{prefix}.blocks.{block}.{name}", shape)
            yield f"{prefix}.blocks.{block}.ls1.gamma", (WIDTH,)
            yield f"{prefix}.blocks.{block}.ls2.gamma", (WIDTH, 1)
        yield from layer(f"{prefix}.norm", (WIDTH,))
    for name, layers in UPSAMPLERS.items():
        for at in range(layers):
            yield f"encoder.{name}.{at}.weight", (7, 6, 2, 3)
    yield from layer("encoder.upsample_lowres", (7, 6, 2, 3))
    yield from layer("encoder.fuse_lowres", (7, 6, 1, 2))
    for at in range(1, 5):
        yield f"decoder.convs.{at}.weight", (7, 6, 2, 3)
    for at in range(5):
        for name in ("resnet1", "resnet2"):
            yield from layer(f"decoder.fusions.{at}.{name}.residual.1", (7, 6, 2, 3))
            yield from layer(f"decoder.fusions.{at}.{name}.residual.3", (7, 6, 2, 3))
        if at:
            yield f"decoder.fusions.{at}.deconv.weight", (7, 6, 2, 3)
        yield from layer(f"decoder.fusions.{at}.out_conv", (7, 6, 1, 2))
    for at in (0, 1, 2, 4):
        yield from layer(f"head.{at}", (7, 6, 2, 3))
    yield from layer("fov.encoder.1", (7, 6))
    yield from layer("fov.downsample.0", (7, 6, 2, 3))
    for at in (0, 2, 4):
        yield from layer(f"fov.head.{at}", (7, 6, 2, 3))


def layer(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float16) for name, shape in shapes()}


@pytest.fixture
def theirs(state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What mflux's loader holds after reading the checkpoint with torch."""
    torch = oracle("torch")
    path = tmp_path / "depth_pro.pt"
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)
    loader = oracle("mflux.models.common.weights.loading.weight_loader").WeightLoader
    definition = oracle("mflux.models.depth_pro.weights.depth_pro_weight_definition").DepthProWeightDefinition
    monkeypatch.setattr(loader, "_download_from_url", lambda *_, **__: path)
    loaded = loader.load(weight_definition=definition)
    flat = oracle("mlx.utils").tree_flatten(loaded.components["depth_pro"])
    return {name: np.array(array) for name, array in flat}


def laid_out(state: dict[str, Any], **options: bool) -> LayoutResult:
    tensors = {name: from_array(array) for name, array in state.items()}
    return apply(choose_layout("auto", None, tensors), tensors, None, options)


def test_it_is_bit_equal_to_mfluxs_own_loader(state: dict[str, Any], theirs: dict[str, Any]) -> None:
    ours = laid_out(state)
    assert len(state) == 1119
    assert len(ours.tensors) == len(theirs) == 767
    assert ours.tensors.keys() == theirs.keys()
    for name, array in theirs.items():
        got = ours.tensors[name].numpy()
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        assert got.tobytes() == array.tobytes(), name
    assert len(ours.dropped) == 352


def test_the_field_of_view_network_is_kept_when_asked_for(state: dict[str, Any]) -> None:
    ours = laid_out(state, include_fov=True)
    assert len(ours.tensors) == 1119
    assert not ours.dropped
    expected = state["fov.head.2.weight"].transpose(0, 2, 3, 1)
    assert np.array_equal(ours.tensors["fov.head.2.weight"].numpy(), expected)
