"""Megatron-Core's names and layouts → the hub's, by a table and the hub's config.json.

Megatron stacks the layers of a model, keeps queries, keys and values in one matrix by groups of heads, the
gate beside what it gates, and pads the vocabulary (Megatron-Core 0.16).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.errors import LayoutError
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor

MARKS = ("embedding.word_embeddings.weight", "decoder.final_layernorm.weight")
"""Names of which a checkpoint of Megatron's has one at least."""

STACKED = re.compile(r"decoder\.layers\.(?!\d)(.+)")
LAYER = re.compile(r"decoder\.layers\.(\d{1,6})\.(.+)")
STACKED_EXPERTS = re.compile(r"mlp\.experts\.experts\.(.+)")
EXPERT = re.compile(r"mlp\.experts\.(?:local_experts|experts)\.(\d{1,6})\.(.+)")


@dataclass(frozen=True, slots=True)
class Family:
    """What the hub calls the parts of one family of models; `{}` stands for a layer's number.

    Attributes:
        model_types: as config.json calls them.
        names: of tensors that keep their layout.
        queries: the three names that one matrix becomes, or the one that has all three one after another.
        gate: the two names that `linear_fc1` becomes, or the one.
        expert: what stands before the number of an expert of a layer; `expert_names`: its three matrices.
        shared: what stands before the names of the expert that all words go through.
        transposed: its matrices have their axes the other way round.
    """

    model_types: tuple[str, ...]
    names: Mapping[str, str]
    queries: tuple[str, ...]
    gate: tuple[str, ...]
    expert: str = ""
    expert_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    transposed: bool = False
    shared: str = ""


LLAMA = {
    "embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "output_layer.weight": "lm_head.weight",
    "decoder.final_layernorm.weight": "model.norm.weight",
    "input_layernorm.weight": "model.layers.{}.input_layernorm.weight",
    "self_attention.linear_qkv.layer_norm_weight": "model.layers.{}.input_layernorm.weight",
    "pre_mlp_layernorm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "mlp.linear_fc1.layer_norm_weight": "model.layers.{}.post_attention_layernorm.weight",
    "self_attention.linear_proj.weight": "model.layers.{}.self_attn.o_proj.weight",
    "self_attention.linear_proj.bias": "model.layers.{}.self_attn.o_proj.bias",
    "self_attention.q_layernorm.weight": "model.layers.{}.self_attn.q_norm.weight",
    "self_attention.k_layernorm.weight": "model.layers.{}.self_attn.k_norm.weight",
    "mlp.linear_fc2.weight": "model.layers.{}.mlp.down_proj.weight",
}
ATTENTION = tuple(f"model.layers.{{}}.self_attn.{part}_proj" for part in "qkv")
MLP = ("model.layers.{}.mlp.gate_proj", "model.layers.{}.mlp.up_proj")
MIXTURE = {
    **LLAMA,
    "mlp.router.weight": "model.layers.{}.mlp.gate.weight",
    "mlp.shared_experts.gate_weight": "model.layers.{}.mlp.shared_expert_gate.weight",
    "mlp.shared_experts.linear_fc2.weight": "model.layers.{}.mlp.shared_expert.down_proj.weight",
}
FAMILIES = (
    Family(("llama", "mistral", "qwen2", "qwen3"), LLAMA, ATTENTION, MLP),
    Family(
        ("mixtral",),
        {**LLAMA, "mlp.router.weight": "model.layers.{}.block_sparse_moe.gate.weight"},
        ATTENTION,
        MLP,
        "model.layers.{}.block_sparse_moe.experts.",
        ("w1", "w3", "w2"),
    ),
    Family(
        ("qwen2_moe", "qwen3_moe"),
        MIXTURE,
        ATTENTION,
        MLP,
        "model.layers.{}.mlp.experts.",
        shared="model.layers.{}.mlp.shared_expert.",
    ),
    Family(
        ("gpt2",),
        {
            "embedding.word_embeddings.weight": "transformer.wte.weight",
            "embedding.position_embeddings.weight": "transformer.wpe.weight",
            "output_layer.weight": "lm_head.weight",
            **{f"decoder.final_layernorm.{kind}": f"transformer.ln_f.{kind}" for kind in ("weight", "bias")},
            **{
                f"{theirs}{kind}": f"transformer.h.{{}}.{hub}.{kind}"
                for kind in ("weight", "bias")
                for theirs, hub in (
                    ("input_layernorm.", "ln_1"),
                    ("self_attention.linear_qkv.layer_norm_", "ln_1"),
                    ("pre_mlp_layernorm.", "ln_2"),
                    ("mlp.linear_fc1.layer_norm_", "ln_2"),
                    ("self_attention.linear_proj.", "attn.c_proj"),
                    ("mlp.linear_fc2.", "mlp.c_proj"),
                )
            },
        },
        ("transformer.h.{}.attn.c_attn",),
        ("transformer.h.{}.mlp.c_fc",),
        transposed=True,
    ),
)


def is_megatron(names: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has the names of Megatron's."""
    return any(mark in names for mark in MARKS) and any(name.startswith("decoder.layers.") for name in names)


def to_hub(
    tensors: Mapping[str, LazyTensor], config: Mapping[str, Any]
) -> tuple[dict[str, LazyTensor], dict[str, tuple[str, ...]]] | None:
    """The tensors under the hub's names, and what each is made of; None where the model's are not known.

    Args:
        config: the hub's config.json.

    Raises:
        LayoutError: a tensor has no place in such a model, or does not fit the config.
    """
    family = next((one for one in FAMILIES if config.get("model_type") in one.model_types), None)
    if family is None:
        return None
    made: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for name, tensor in tensors.items():
        for layer, rest, part in _by_layer(name, tensor):
            for hub, piece in _parts(family, rest, part, config, name):
                hub = hub.format(layer)
                if hub in made:
                    raise LayoutError(f"{name:.100} and {sources[hub][0]:.100} are both the hub's {hub:.100}")
                made[hub], sources[hub] = piece, (name,)
    return made, sources


def _by_layer(name: str, tensor: LazyTensor) -> Iterator[tuple[int, str, LazyTensor]]:
    """A tensor of one layer, or each layer's of a stack of them: number, name within the layer, itself."""
    if match := LAYER.fullmatch(name):
        yield int(match[1]), match[2], tensor
    elif (match := STACKED.fullmatch(name)) and tensor.ndim > 1:
        for at in range(tensor.shape[0]):
            yield at, match[1], _item(tensor, at)
    else:
        yield 0, name, tensor


def _item(tensor: LazyTensor, at: int) -> LazyTensor:
    return tensor.slice(0, at, at + 1).reshape(tensor.shape[1:])


def _parts(
    family: Family, rest: str, tensor: LazyTensor, config: Mapping[str, Any], name: str
) -> Iterator[tuple[str, LazyTensor]]:
    """What one tensor becomes under the hub's names."""
    flipped: Callable[[LazyTensor], LazyTensor] = _flipped if family.transposed else lambda one: one
    known = family.names.get(rest)
    stem, _, kind = rest.rpartition(".")
    if known is not None:
        if rest in ("embedding.word_embeddings.weight", "output_layer.weight"):
            yield known, _cut_vocabulary(tensor, config, name)
        else:
            matrix = stem.endswith(("linear_proj", "linear_fc2"))
            yield known, flipped(tensor) if matrix else tensor
    elif stem == "self_attention.linear_qkv" and kind in ("weight", "bias"):
        queries = _queries(tensor, config, name)
        if len(family.queries) == 1:
            yield f"{family.queries[0]}.{kind}", flipped(operations.concat(queries))
        else:
            for hub, part in zip(family.queries, queries, strict=True):
                yield f"{hub}.{kind}", part
    elif stem == "mlp.linear_fc1" and kind in ("weight", "bias"):
        halves = _split(tensor, len(family.gate), name)
        for hub, part in zip(family.gate, halves, strict=True):
            yield f"{hub}.{kind}", flipped(part)
    elif family.shared and rest == "mlp.shared_experts.linear_fc1.weight":
        for hub, part in zip(family.expert_names, _split(tensor, 2, name), strict=False):
            yield f"{family.shared}{hub}.weight", part
    elif family.expert and (match := EXPERT.fullmatch(rest)):
        yield from _expert(family, int(match[1]), match[2], tensor, name)
    elif family.expert and (match := STACKED_EXPERTS.fullmatch(rest)) and tensor.ndim > 1:
        for at in range(tensor.shape[0]):
            yield from _expert(family, at, match[1], _item(tensor, at), name)
    else:
        raise LayoutError(
            f"Megatron's {name:.150} has no place in a {config.get('model_type')!s:.40}: leave it out with"
            " --exclude, or take another config with --config"
        )


def _expert(
    family: Family, number: int, rest: str, tensor: LazyTensor, name: str
) -> Iterator[tuple[str, LazyTensor]]:
    gate, up, down = family.expert_names
    if rest == "linear_fc1.weight":
        for hub, part in zip((gate, up), _split(tensor, 2, name), strict=True):
            yield f"{family.expert}{number}.{hub}.weight", part
    elif rest == "linear_fc2.weight":
        yield f"{family.expert}{number}.{down}.weight", tensor
    else:
        raise LayoutError(f"Megatron's {name:.150} is of no kind that experts have")


def _flipped(tensor: LazyTensor) -> LazyTensor:
    return tensor.transpose((1, 0)) if tensor.ndim == 2 else tensor


def _split(tensor: LazyTensor, count: int, name: str) -> tuple[LazyTensor, ...]:
    if not tensor.shape or tensor.shape[0] % count:
        raise LayoutError(f"Megatron's {name:.150} {tensor.shape!r:.40} cannot be {count} matrices")
    return operations.split(tensor, count)


def _cut_vocabulary(tensor: LazyTensor, config: Mapping[str, Any], name: str) -> LazyTensor:
    """The rows of words that there are: Megatron pads their number to a multiple."""
    rows = config.get("vocab_size")
    if type(rows) is not int or not tensor.shape or not 0 < rows <= tensor.shape[0]:
        raise LayoutError(
            f"Megatron's {name:.150} has {tensor.shape!r:.40}, not the {rows!r:.20} rows of config.json"
        )
    return tensor.slice(0, 0, rows)


def _queries(tensor: LazyTensor, config: Mapping[str, Any], name: str) -> tuple[LazyTensor, ...]:
    """Queries, keys and values of one matrix, in which each group of heads has all three together."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    groups = config.get("num_key_value_heads") or heads
    if type(heads) is not int or type(groups) is not int or not 0 < groups <= heads or heads % groups:
        raise LayoutError(f"config.json has {heads!r:.20} heads in {groups!r:.20} groups")
    rows, each = (tensor.shape or (0,))[0], heads // groups
    width, left = divmod(rows, groups * (each + 2))
    if left or not width or config.get("head_dim") not in (None, width):
        raise LayoutError(
            f"Megatron's {name:.150} has {rows:,} rows, which the heads of config.json do not fit"
        )
    rest = tensor.shape[1:]
    grouped = tensor.reshape((groups, each + 2, width, *rest))
    cuts = ((0, each), (each, each + 1), (each + 1, each + 2))
    return tuple(grouped.slice(1, a, b).reshape((groups * (b - a) * width, *rest)) for a, b in cuts)
