"""EnCodec: every layer, as laid out for mlx-examples, computes in MLX what it computes in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.tiny import randomise
from tests.oracles import oracle
from wconv.errors import LayoutError

pytestmark = pytest.mark.oracle

SIZES: dict[str, Any] = {
    "upsampling_ratios": [3, 2, 2, 2],
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 16,
    "codebook_dim": 8,
    "target_bandwidths": [1.5, 3.0],
    "sampling_rate": 2400,
}


def made(**changes: Any) -> Any:
    torch, transformers = oracle("torch"), oracle("transformers")
    torch.manual_seed(0)
    model = transformers.EncodecModel(transformers.EncodecConfig(**{**SIZES, **changes})).eval()
    randomise(model)
    with torch.no_grad():
        for layer in model.quantizer.layers:
            layer.codebook.embed.normal_()
    return model


def assert_every_layer_computes_the_same(model: Any, arrays: dict[str, Any]) -> None:
    """Each layer with tensors of its own gets the same random input in torch and in MLX."""
    torch, mx, nn = oracle("torch"), oracle("mlx.core"), oracle("mlx.nn")
    used = set()
    for path, module in model.named_modules():
        kinds = (torch.nn.Conv1d, torch.nn.ConvTranspose1d, torch.nn.LSTM, torch.nn.GroupNorm)
        if not isinstance(module, kinds):
            continue
        own = {name: mx.array(array) for name, array in arrays.items() if name.startswith(f"{path}.")}
        used.update(own)
        if isinstance(module, torch.nn.LSTM):
            given = np.random.default_rng(1).standard_normal((2, 5, module.input_size), np.float32)
            expected = module(torch.from_numpy(given).transpose(0, 1))[0].transpose(0, 1)
            got = mx.array(given)
            for at in range(module.num_layers):
                layer = nn.LSTM(module.input_size, module.hidden_size)
                layer.load_weights([(name, own[f"{path}.{at}.{name}"]) for name in ("Wx", "Wh", "bias")])
                got = layer(got)[0]
        elif isinstance(module, torch.nn.GroupNorm):
            given = np.random.default_rng(1).standard_normal((2, 9, module.num_channels), np.float32)
            expected = module(torch.from_numpy(given).mT).mT
            layer = nn.GroupNorm(module.num_groups, module.num_channels, pytorch_compatible=True)
            layer.load_weights([(name, own[f"{path}.{name}"]) for name in ("weight", "bias")])
            got = layer(mx.array(given))
        else:
            given = np.random.default_rng(1).standard_normal((2, 29, module.in_channels), np.float32)
            expected = module(torch.from_numpy(given).mT).mT
            transposed = isinstance(module, torch.nn.ConvTranspose1d)
            function = mx.conv_transpose1d if transposed else mx.conv1d
            weight, bias = own[f"{path}.weight"], own[f"{path}.bias"]
            got = function(mx.array(given), weight, module.stride[0], dilation=module.dilation[0]) + bias
        np.testing.assert_allclose(
            np.array(got), expected.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=path
        )
    codebooks = {name for name in arrays if name.endswith("codebook.embed")}
    assert used | codebooks == set(arrays)
    for name in codebooks:
        assert np.array_equal(arrays[name], model.state_dict()[name].numpy())


@pytest.mark.parametrize("norm", ["weight_norm", "time_group_norm"])
def test_every_layer_computes_the_same(norm: str, tmp_path: Path) -> None:
    model = made(norm_type=norm)
    model.save_pretrained(tmp_path / "encodec")
    report = wconv.convert(tmp_path / "encodec")
    assert report.layout == "mlx-examples"
    assert_every_layer_computes_the_same(model, wconv.load(report.output))
    assert (report.output / "model.safetensors").exists()
    assert (report.output / "config.json").exists()


def test_the_older_names_of_weight_norm_give_the_same(tmp_path: Path) -> None:
    model = made()
    model.save_pretrained(tmp_path / "encodec")
    state = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in model.state_dict().items()
    }
    (tmp_path / "encodec" / "model.safetensors").unlink()
    oracle("torch").save(state, tmp_path / "encodec" / "pytorch_model.bin")
    assert_every_layer_computes_the_same(model, wconv.load(wconv.convert(tmp_path / "encodec").output))


def test_a_decoder_that_is_built_otherwise_is_refused(tmp_path: Path) -> None:
    made(upsampling_ratios=[2, 2]).save_pretrained(tmp_path / "encodec")
    with pytest.raises(LayoutError, match="transposed convolutions elsewhere"):
        wconv.convert(tmp_path / "encodec")
