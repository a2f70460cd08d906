"""Checkpoints of a given size with random weights, written without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.formats.safetensors import make_header
from wconv.tensors import dtypes

Named = tuple[str, tuple[int, ...]]

QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "torch_dtype": "bfloat16",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
"""Qwen2.5-7B's, but for the number of layers."""

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 2048,
    "intermediate_size": 2400,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

NORMS = ("input_layernorm", "post_attention_layernorm")


class Weights:
    """An endless supply of normal random numbers, as trained weights are distributed."""

    def __init__(self, dtype: str) -> None:
        self._rng = np.random.default_rng(0)
        values = self._rng.standard_normal(1 << 24, np.float32) * 0.02
        self._pool = values.astype(dtypes.by_name(dtype).numpy)

    def pieces(self, count: int) -> Iterator[NDArray[Any]]:
        """So many numbers: the pool from a random place on, again and again."""
        start = int(self._rng.integers(self._pool.size))
        while count:
            piece = self._pool[start : start + count]
            yield piece
            count -= piece.size
            start = 0

    def take(self, shape: Sequence[int]) -> NDArray[Any]:
        """An array of that shape."""
        return np.concatenate([*self.pieces(math.prod(shape))]).reshape(shape)


def qwen_shapes(nbytes: float) -> tuple[dict[str, Any], list[Named]]:
    """A config and all names and shapes of about so many bytes in bfloat16.

    Names and shapes are the true ones, the layers fewer. Where even one layer is too much, a part of the
    vocabulary remains: the least is half a gigabyte.
    """
    hidden, inner = QWEN["hidden_size"], QWEN["intermediate_size"]
    kv = hidden * QWEN["num_key_value_heads"] // QWEN["num_attention_heads"]
    layer = 2 * (2 * hidden * hidden + 2 * kv * hidden + 3 * inner * hidden)
    embedding = 4 * QWEN["vocab_size"] * hidden
    layers = max(round((nbytes - embedding) / layer), 1)
    vocabulary = min(max(int((nbytes - layers * layer) / (4 * hidden)), 1000), QWEN["vocab_size"])
    shapes: list[Named] = [("model.embed_tokens.weight", (vocabulary, hidden))]
    for at in range(layers):
        prefix = f"model.layers.{at}"
        shapes += [
            (f"{prefix}.input_layernorm.weight", (hidden,)),
            (f"{prefix}.mlp.down_proj.weight", (hidden, inner)),
            (f"{prefix}.mlp.gate_proj.weight", (inner, hidden)),
            (f"{prefix}.mlp.up_proj.weight", (inner, hidden)),
            (f"{prefix}.post_attention_layernorm.weight", (hidden,)),
        ]
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            shapes.append((f"{prefix}.self_attn.{name}_proj.bias", (rows,)))
            shapes.append((f"{prefix}.self_attn.{name}_proj.weight", (rows, hidden)))
        shapes.append((f"{prefix}.self_attn.o_proj.weight", (hidden, hidden)))
    shapes += [("model.norm.weight", (hidden,)), ("lm_head.weight", (vocabulary, hidden))]
    return {**QWEN, "num_hidden_layers": layers, "vocab_size": vocabulary}, shapes


def split(shapes: Sequence[Named], count: int) -> list[list[Named]]:
    """Consecutive parts of about equal size."""
    total = sum(math.prod(shape) for _, shape in shapes)
    parts: list[list[Named]] = [[] for _ in range(count)]
    before = 0
    for name, shape in shapes:
        size = math.prod(shape)
        parts[min(int(count * (before + size / 2) / total), count - 1)].append((name, shape))
        before += size
    return [part for part in parts if part]


def qwen(path: Path, scale: float) -> Path:
    """3 GB in the shape of Qwen2.5-7B: bfloat16, four shards, a tokenizer that loads."""
    config, shapes = qwen_shapes(3e9 * scale)
    write_model(path, config, split(shapes, 4), "bfloat16")
    return path


def one_layer(path: Path, scale: float) -> Path:
    """0.5 GB in the shape of Qwen2.5-7B: one layer and a small vocabulary."""
    config, shapes = qwen_shapes(5e8 * scale)
    write_model(path, config, split(shapes, 2), "bfloat16")
    return path


def flux2_shapes(nbytes: float) -> list[Named]:
    """Names and shapes of FLUX.2's transformer (klein 4B), with fewer blocks, for about so many bytes."""
    hidden = 3072
    square = 2 * hidden * hidden
    double = max(round((nbytes - 18 * square) / 2 / (26 * square)), 1)
    single = max(round((nbytes - (18 + 26 * double) * square) / (13 * square)), 1)
    shapes: list[Named] = [
        ("x_embedder.weight", (hidden, 128)),
        ("context_embedder.weight", (hidden, 7680)),
        ("time_guidance_embed.timestep_embedder.linear_1.weight", (hidden, 256)),
        ("time_guidance_embed.timestep_embedder.linear_2.weight", (hidden, hidden)),
        ("double_stream_modulation_img.linear.weight", (6 * hidden, hidden)),
        ("double_stream_modulation_txt.linear.weight", (6 * hidden, hidden)),
        ("single_stream_modulation.linear.weight", (3 * hidden, hidden)),
        ("norm_out.linear.weight", (2 * hidden, hidden)),
        ("proj_out.weight", (128, hidden)),
    ]
    parts = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    for at in range(double):
        prefix = f"transformer_blocks.{at}"
        shapes += [(f"{prefix}.attn.{part}.weight", (hidden, hidden)) for part in parts]
        shapes += [(f"{prefix}.attn.norm_{part}.weight", (128,)) for part in ("q", "k", "added_q", "added_k")]
        for ff in ("ff", "ff_context"):
            shapes.append((f"{prefix}.{ff}.linear_in.weight", (6 * hidden, hidden)))
            shapes.append((f"{prefix}.{ff}.linear_out.weight", (hidden, 3 * hidden)))
    for at in range(single):
        prefix = f"single_transformer_blocks.{at}.attn"
        shapes.append((f"{prefix}.to_qkv_mlp_proj.weight", (9 * hidden, hidden)))
        shapes.append((f"{prefix}.to_out.weight", (hidden, 4 * hidden)))
        shapes += [(f"{prefix}.norm_{part}.weight", (128,)) for part in "qk"]
    return shapes


def flux2(path: Path, scale: float) -> Path:
    """4 GB in the shape of FLUX.2's transformer: bfloat16, two shards, in a pipeline's directory."""
    kind = "Flux2Transformer2DModel"
    write_model(path / "transformer", {"_class_name": kind}, split(flux2_shapes(4e9 * scale), 2), "bfloat16")
    index = {"_class_name": "Flux2KleinPipeline", "transformer": ["diffusers", kind]}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def small_tensors(path: Path, scale: float) -> Path:
    """50,000 tensors of 20 KB in bfloat16, in one file of a directory."""
    shapes = [(f"layers.{at}.weight", (100, 100)) for at in range(int(50_000 * scale))]
    write_model(path, {"model_type": "benchmark"}, [shapes], "bfloat16")
    return path


def float32(path: Path, scale: float) -> Path:
    """2 GB in float32, in two files of a directory."""
    shapes = [(f"layers.{at}.weight", (4096, 4096)) for at in range(max(int(30 * scale), 2))]
    write_model(path, {"model_type": "benchmark"}, split(shapes, 2), "float32")
    return path


def headers_only(path: Path, scale: float) -> Path:
    """100,000 tensors of 7 MB in 5 GB shards whose data are holes: 700 GB that take a few MB."""
    hidden, inner = LLAMA["hidden_size"], LLAMA["intermediate_size"]
    layers = int(100_000 * scale) // 9
    shapes: list[Named] = [("model.embed_tokens.weight", (LLAMA["vocab_size"], hidden))]
    for at in range(layers):
        prefix = f"model.layers.{at}"
        shapes += [(f"{prefix}.self_attn.{name}_proj.weight", (hidden, hidden)) for name in "qkvo"]
        shapes += [(f"{prefix}.mlp.{name}_proj.weight", (inner, hidden)) for name in ("gate", "up")]
        shapes.append((f"{prefix}.mlp.down_proj.weight", (hidden, inner)))
        shapes += [(f"{prefix}.{name}.weight", (hidden,)) for name in NORMS]
    shapes += [("model.norm.weight", (hidden,)), ("lm_head.weight", (LLAMA["vocab_size"], hidden))]
    total = 2 * sum(math.prod(shape) for _, shape in shapes)
    parts = split(shapes, max(round(total / 5e9), 1))
    write_model(path, {**LLAMA, "num_hidden_layers": layers}, parts, "bfloat16", sparse=True)
    return path


def write_model(
    path: Path, config: dict[str, Any], parts: Sequence[Sequence[Named]], dtype: str, *, sparse: bool = False
) -> None:
    """A model directory: shards, index, config and a tokenizer of two words."""
    path.mkdir(parents=True)
    weight_map = {}
    weights = None if sparse else Weights(dtype)
    for number, shapes in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        if len(parts) == 1:
            name = "model.safetensors"
        weight_map.update({tensor: name for tensor, _ in shapes})
        _write_shard(path / name, shapes, dtype, weights)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "word": 1}, "unk_token": "<unk>"},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(kind))


def _write_shard(path: Path, shapes: Iterable[Named], dtype: str, weights: Weights | None) -> None:
    shapes = list(shapes)
    kind = dtypes.by_name(dtype)
    header = make_header(((name, kind, shape) for name, shape in shapes), {"format": "pt"})
    with path.open("wb") as file:
        file.write(header)
        if weights is None:
            file.truncate(len(header) + sum(kind.nbytes(math.prod(shape)) for _, shape in shapes))
            return
        for _, shape in shapes:
            for piece in weights.pieces(math.prod(shape)):
                file.write(piece.view(np.uint8).data)


def warm(path: Path) -> None:
    """Reads all files but sparse ones, so that every run finds them in the page cache."""
    for file in sorted(path.rglob("*")):
        status = file.stat()
        if file.is_file() and status.st_blocks * 512 >= status.st_size // 2:
            with file.open("rb") as opened:
                while opened.read(1 << 24):
                    pass
