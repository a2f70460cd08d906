"""The converters of mlx-audio that read what torch saved, each as far as it touches torch's tensors."""

from __future__ import annotations

import importlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.oracle.torch.converters.case import Case, tensors

PROGRAM = "mlx-audio"


def module(name: str) -> Any:
    return importlib.import_module(f"mlx_audio.{name}")


def saved(shapes: Mapping[str, tuple[int, ...]], *dtypes: str, name: str = "model.pt", key: str = "") -> Any:
    """A function that writes a state dict, in a dict under `key` where one is named."""

    def make(torch: Any, folder: Path) -> None:
        state = tensors(torch, shapes, *dtypes)
        torch.save({key: state, "epoch": 3} if key else state, folder / name)

    return make


def nemo(shapes: Mapping[str, tuple[int, ...]], *dtypes: str) -> Callable[[Any, Path], None]:
    """A NeMo archive: a tar of the weights and a config."""

    def make(torch: Any, folder: Path) -> None:
        held = io.BytesIO()
        torch.save(tensors(torch, shapes, *dtypes), held)
        with tarfile.open(folder / "model.nemo", "w") as archive:
            for name, data in (
                ("model_config.yaml", b"sample_rate: 16000\n"),
                ("model_weights.ckpt", held.getvalue()),
            ):
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))

    return make


def stepaudio(folder: Path, out: Path) -> Any:
    step = module("codec.models.stepaudio2.convert")
    return step._merge_weight_norm(step.load_torch_weights(folder / "model.pt"))


def drama(folder: Path, out: Path) -> None:
    codec = importlib.import_module("mlx_audio.codec.models.fish_s1_dac.fish_s1_dac")

    class Codec:
        sanitize = staticmethod(dict)
        parameters = staticmethod(dict)

    kept, codec.build_ae = codec.build_ae, Codec
    module("tts.models.fish_drama3.convert").convert_codec(folder / "codec.pth", out / "codec.safetensors")
    codec.build_ae = kept


def confucius(folder: Path, out: Path) -> Any:
    import torch

    fold = module("tts.models.confucius4.convert")._fold_weight_norm
    found = fold(torch.load(folder / "model.pt", map_location="cpu", weights_only=False))
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def melotts(folder: Path, out: Path) -> None:
    import huggingface_hub

    kept, huggingface_hub.hf_hub_download = huggingface_hub.hf_hub_download, lambda repo, name: folder / name
    melo = module("tts.models.melotts.convert")
    kept_bert, melo.convert_bert = melo.convert_bert, lambda path: None
    try:
        melo.convert_melotts(str(out))
    finally:
        huggingface_hub.hf_hub_download, melo.convert_bert = kept, kept_bert


def make_melotts(torch: Any, folder: Path) -> None:
    state = tensors(
        torch,
        {
            "enc_p.emb.weight": (4, 6),
            "dec.ups.0.weight_g": (4, 1, 1),
            "dec.ups.0.weight_v": (4, 2, 3),
            "flow.flows.0.enc.weight_g": (2, 1, 1),
            "flow.flows.0.enc.weight_v": (2, 3, 5),
            "dec.conv_pre.weight": (2, 3, 5),
            "net_d.weight": (2,),
        },
    )
    torch.save({"model": state, "iteration": 1}, folder / "checkpoint.pth")
    config = {"data": {}, "model": {}, "num_tones": 1, "num_languages": 1, "symbols": ["a"]}
    (folder / "config.json").write_text(json.dumps(config))


def zonos(dtype: str) -> Callable[[Path, Path], Any]:
    def run(folder: Path, out: Path) -> Any:
        convert = module("tts.models.zonos2.convert")
        return convert.convert_state_dict(convert._load_torch_state(folder), dtype=dtype)

    return run


def chatterbox(folder: Path, out: Path) -> Any:
    return module("tts.models.chatterbox.scripts.convert").load_pytorch_safetensors(folder / "ve.safetensors")


def make_chatterbox(torch: Any, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        tensors(torch, {"a.weight": (3, 4), "b.bias": (5,), "c": ()}, "float32", "float16"),
        folder / "ve.safetensors",
    )


def fsmn(folder: Path, out: Path) -> None:
    module("vad.models.fsmn.convert").convert(str(folder / "model.pt"), str(out))


def diarization(dtype: str) -> Callable[[Path, Path], Any]:
    def run(folder: Path, out: Path) -> Any:
        convert = module("vad.models.nemotron_diarization.convert")
        _, state = convert.read_nemo(folder / "model.nemo")
        return convert.convert_weights(state, dtype)

    return run


def sortformer(folder: Path, out: Path) -> None:
    convert = module("vad.models.sortformer.convert")
    _, state = convert.extract_nemo(folder / "model.nemo", folder)
    weights, _ = convert.convert_weights(state)
    assert weights
    convert.save_safetensors(weights, out / "model.safetensors")


def fun_asr(dtype: str) -> Callable[[Path, Path], Any]:
    def run(folder: Path, out: Path) -> Any:
        convert = module("stt.models.fun_asr_nano.convert")
        return convert._convert_weights(convert._load_torch_checkpoint(folder / "model.pt"), dtype)

    return run


def nemotron_asr(folder: Path, out: Path) -> Any:
    import mlx.core as mx
    import torch

    convert = module("stt.models.nemotron_asr.convert")
    state = torch.load(folder / "model.pt", map_location="cpu", weights_only=False)
    return convert._convert_weights(state["state_dict"], mx.bfloat16)


def make_sidon(torch: Any, folder: Path) -> None:
    shapes = {
        "ssl_model.base_model.model.encoder.layers.0.q.base_layer.weight": (6, 6),
        "ssl_model.base_model.model.encoder.layers.0.q.lora_A.default.weight": (2, 6),
        "ssl_model.base_model.model.encoder.layers.0.q.lora_B.default.weight": (6, 2),
        "ssl_model.base_model.model.encoder.conv.weight": (4, 2, 3),
        "ssl_model.base_model.model.masked_spec_embed": (4,),
        "decoder.model.1.block.1.weight_g": (4, 1, 1),
        "decoder.model.1.block.1.weight_v": (4, 2, 3),
        "layers.0.mlp.2.weight": (3, 3),
    }
    held = io.BytesIO()
    state = tensors(torch, shapes, "float32", "bfloat16")
    torch.save({k: torch.nn.Parameter(v) for k, v in state.items()}, held)
    with zipfile.ZipFile(folder / "ssl_encoder.pt2", "w") as archive:
        archive.writestr("a/data/weights/model.pt", held.getvalue())
        archive.writestr("a/models/model.json", "{}")


def sidon(folder: Path, out: Path) -> Any:
    convert = module("sts.models.dialogue_sidon.convert")
    state, _ = convert.load_export(folder / "ssl_encoder.pt2")
    encoder = {k: v for k, v in state.items() if k.startswith("ssl_model.")}
    rest = {k: v for k, v in state.items() if k not in encoder}
    return (
        convert.convert_encoder_weights(encoder)
        | convert.convert_decoder_weights(rest)
        | convert.convert_diffusion_weights(rest)
    )


def roformer(dtype: str) -> Callable[[Path, Path], None]:
    def run(folder: Path, out: Path) -> None:
        convert = module("sts.models.mel_roformer.convert")
        convert.convert_checkpoint(folder / "model.ckpt", out, dtype=dtype)

    return run


def deepfilter(folder: Path, out: Path) -> None:
    (folder / "config.ini").write_text("[df]\nsr=48000\n[deepfilternet]\nlinear_groups=16\n")
    module("sts.models.deepfilternet.scripts.convert").convert_pytorch_to_mlx(
        folder / "model.pt", folder / "config.ini", out
    )


CONV = {
    "a.conv.weight": (4, 2, 3),
    "b.conv2d.weight": (4, 2, 3, 3),
    "c.linear.weight": (4, 6),
    "c.linear.bias": (4,),
}
NORMS = {
    "a.parametrizations.weight.original0": (4, 1, 1),
    "a.parametrizations.weight.original1": (4, 2, 3),
    "b.weight_g": (4, 1, 1),
    "b.weight_v": (4, 2, 3),
    "c.bias": (4,),
}
NEMO = {
    "encoder.layers.0.conv.pointwise_conv1.weight": (4, 2, 1),
    "encoder.layers.0.norm_conv.weight": (4,),
    "encoder.pre_encode.conv.0.weight": (4, 1, 3, 3),
    "sortformer_modules.activity_head.0.weight": (3, 3),
    "transformer_encoder.layers.0.first_sub_layer.query_net.weight": (4, 4),
    "sortformer_modules.subpixel_upsample.weight": (2, 3, 4),
    "preprocessor.featurizer.fb": (1, 4, 5),
}
ZONOS = {
    "embeddings.0.weight": (4, 6),
    "layers.0.mlp.experts.gate_up_proj": (2, 8, 6),
    "layers.0.mlp.experts.down_proj": (2, 6, 4),
    "layers.0.attention.wqkv.weight": (6, 6),
}
ASR = {
    "decoder.prediction.dec_rnn.lstm.weight_ih_l0": (8, 4),
    "decoder.prediction.dec_rnn.lstm.weight_hh_l0": (8, 4),
    "decoder.prediction.dec_rnn.lstm.bias_ih_l0": (8,),
    "decoder.prediction.dec_rnn.lstm.bias_hh_l0": (8,),
    "encoder.pre.conv.weight": (4, 2, 3, 3),
    "encoder.conv.weight": (4, 2, 3),
    "preprocessor.fb": (2, 2),
}
FUN = {
    "module.encoder.fsmn_block.weight": (4, 1, 5),
    "llm.lm_head.weight": (3, 3),
    "llm.norm.weight": (4,),
    "a.w": (3, 5),
}

CASES = [
    Case(PROGRAM, "codec stepaudio2", saved(NORMS), stepaudio),
    Case(
        PROGRAM,
        "tts fish_drama3 codec",
        saved({f"generator.{k}": v for k, v in CONV.items()}, "bfloat16", name="codec.pth", key="state_dict"),
        drama,
    ),
    Case(PROGRAM, "tts confucius4", saved(NORMS), confucius, close=1),
    Case(PROGRAM, "tts melotts", make_melotts, melotts),
    *(
        Case(
            PROGRAM,
            f"tts zonos2 {dtype}",
            saved(ZONOS, "bfloat16", "float32", name="model.pth", key="model"),
            zonos(dtype),
        )
        for dtype in ("bfloat16", "float16", "float32")
    ),
    Case(PROGRAM, "tts chatterbox", make_chatterbox, chatterbox),
    Case(
        PROGRAM, "vad fsmn", saved({"encoder.fsmn.0.fsmn_block.conv_left.weight": (4, 1, 5, 1), **CONV}), fsmn
    ),
    *(
        Case(
            PROGRAM,
            f"vad nemotron_diarization {dtype}",
            nemo(NEMO, "float32", "bfloat16"),
            diarization(dtype),
        )
        for dtype in ("float32", "bfloat16")
    ),
    Case(PROGRAM, "vad sortformer", nemo(NEMO), sortformer),
    *(
        Case(
            PROGRAM,
            f"stt fun_asr_nano {dtype}",
            saved(FUN, "float32", "bfloat16", key="state_dict"),
            fun_asr(dtype),
        )
        for dtype in ("float16", "bfloat16", "float32")
    ),
    Case(PROGRAM, "stt nemotron_asr", saved(ASR, "float32", "float16", key="state_dict"), nemotron_asr),
    Case(PROGRAM, "sts dialogue_sidon", make_sidon, sidon, close=16),
    *(
        Case(
            PROGRAM,
            f"sts mel_roformer {dtype}",
            saved(
                {"model.layers.0.to_qkv.weight": (12, 4), "model.mask.weight": (3, 5)},
                "float16",
                "float32",
                name="model.ckpt",
                key="state_dict",
            ),
            roformer(dtype),
        )
        for dtype in ("float32", "bfloat16")
    ),
    Case(
        PROGRAM,
        "sts deepfilternet",
        saved({**CONV, "a.num_batches_tracked": ()}, key="state_dict"),
        deepfilter,
    ),
]
