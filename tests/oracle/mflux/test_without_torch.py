"""mflux 0.24 loads Depth Pro, FIBO and FIBO-VLM through wconv.torch, without PyTorch, to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.oracle import no_torch
from tests.oracles import oracle
from wconv.formats import open_file

pytestmark = pytest.mark.oracle

SCRIPT = Path(__file__).with_name("mflux_load.py")

RANKS: tuple[tuple[int, ...], ...] = ((3, 2, 4, 5), (3, 2, 2, 4, 5), (4, 3), (6,), (1, 6, 1, 1))


def state_of(component: Any) -> dict[str, Any]:
    """A tensor for every name that the component reads, of a shape that its transform takes; dtypes mixed."""
    torch, mx = oracle("torch"), oracle("mlx.core")
    mapper = oracle("mflux.models.common.weights.mapping.weight_mapper").WeightMapper
    blocks, layers = component.num_blocks or 2, component.num_layers or 2
    names = mapper._build_flat_mapping(component.mapping_getter(), blocks, layers)
    dtypes = (torch.bfloat16, torch.float32, torch.float16)
    generator = torch.Generator().manual_seed(11)
    state = {}
    for count, (name, targets) in enumerate(sorted(names.items())):
        shape = next(shape for shape in RANKS if takes(mx.zeros(shape), targets))
        state[name] = torch.randn(shape, generator=generator).to(dtypes[count % 3])
    return state


def takes(array: Any, targets: Any) -> bool:
    """Whether all transforms of a weight accept an array; without any, small matrices do."""
    if all(transform is None for _, transform in targets):
        return bool(array.ndim == 2)
    try:
        for _, transform in targets:
            if transform is not None:
                transform(array)
    except (ValueError, IndexError):
        return False
    return True


def components(definition: str) -> list[Any]:
    module, _, name = definition.rpartition(".")
    found: list[Any] = getattr(oracle(module), name).get_components()
    return found


def assert_equal_loads(definition: str, source: str, site: Path, folder: Path, cache: Path) -> int:
    """Loads with PyTorch and with wconv.torch; returns how many tensors were compared."""
    environment = {"MFLUX_CACHE_DIR": str(cache), "HF_HUB_OFFLINE": "1", "HOME": str(folder)}
    arguments = [str(SCRIPT), definition, source]
    no_torch.succeed(no_torch.run(None, [*arguments, "with.safetensors"], folder, environment))
    shimmed = ["-m", "wconv.torch", *arguments, "without.safetensors"]
    no_torch.succeed(no_torch.run(site, shimmed, folder, environment))
    expected = open_file(str(folder / "with.safetensors")).tensors
    found = open_file(str(folder / "without.safetensors")).tensors
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        ours, wanted = found[name].read_range(), tensor.read_range()
        assert np.array_equal(ours.view(np.uint8), wanted.view(np.uint8)), name
    return len(expected)


def test_depth_pro(site: Path, tmp_path: Path) -> None:
    torch = oracle("torch")
    definition = "mflux.models.depth_pro.weights.depth_pro_weight_definition.DepthProWeightDefinition"
    (component,) = components(definition)
    state = state_of(component)
    # mflux turns these into numpy arrays as they are, which cannot be with bfloat16
    state = {
        name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor for name, tensor in state.items()
    }
    folder = tmp_path / "depth_pro"
    folder.mkdir()
    torch.save({**state, "epoch": 3}, folder / component.download_url.rpartition("/")[2])
    assert assert_equal_loads(definition, "-", site, tmp_path, tmp_path) >= 500


def test_fibo(site: Path, tmp_path: Path) -> None:
    definition = "mflux.models.fibo.weights.fibo_weight_definition.FIBOWeightDefinition"
    for component in components(definition):
        folder = tmp_path / "fibo" / component.hf_subdir
        folder.mkdir(parents=True)
        state = state_of(component)
        oracle("safetensors.torch").save_file(state, str(folder / "model.safetensors"), {"format": "pt"})
        (folder / "config.json").write_text("{}")
    assert assert_equal_loads(definition, "fibo", site, tmp_path, tmp_path) >= 1000


def test_fibo_vlm(site: Path, tmp_path: Path) -> None:
    definition = "mflux.models.fibo_vlm.weights.fibo_vlm_weight_definition.FIBOVLMWeightDefinition"
    folder = tmp_path / "vlm"
    folder.mkdir()
    weight_map = {}
    for number, component in enumerate(components(definition)):
        state = state_of(component)
        file = f"model-0000{number + 1}-of-00002.safetensors"
        oracle("safetensors.torch").save_file(state, str(folder / file), {"format": "pt"})
        weight_map.update(dict.fromkeys(state, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert assert_equal_loads(definition, "vlm", site, tmp_path, tmp_path) >= 600


def test_without_the_shim_mflux_cannot(site: Path, tmp_path: Path) -> None:
    """The two runs above differ in what they prove only if this one fails."""
    definition = "mflux.models.fibo.weights.fibo_weight_definition.FIBOWeightDefinition"
    folder = tmp_path / "fibo" / "vae"
    folder.mkdir(parents=True)
    state = state_of(components(definition)[0])
    oracle("safetensors.torch").save_file(state, str(folder / "model.safetensors"), {"format": "pt"})
    environment = {"MFLUX_CACHE_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = no_torch.run(site, [str(SCRIPT), definition, "fibo", "out.safetensors"], tmp_path, environment)
    assert "No module named 'torch'" in done.stderr
