"""A tiny Llama as transformers saves it, tokenizer included: what trainers' formats are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.oracle.consumers import VOCABULARY
from tests.oracles import oracle

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def saved(path: Path) -> Path:
    """Writes the model into a directory, which it gives back."""
    transformers, torch, tokenizers = oracle("transformers"), oracle("torch"), oracle("tokenizers")
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, tie_word_embeddings=False))
    model.to(torch.bfloat16).save_pretrained(path)
    tokens = {f"t{at}": at for at in range(VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(tokens, unk_token="t0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made).save_pretrained(path)
    return path
