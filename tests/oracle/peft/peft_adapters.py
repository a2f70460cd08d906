"""Run by a process of PEFT's own: adapters that it saves, and what models compute with those that it loads.

Usage: `python peft_adapters.py JOB.json`, a job of:

    packages  directories in which PEFT and what it needs are installed
    model     a language model's directory, which transformers loads
    save      directory → LoraConfig's arguments: an adapter is made, made random, and saved there
    load      name → directory of an adapter, or of a model of its own
    ids       tokens
    output    NPZ file: for each name the logits
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    sys.path.extend(job["packages"])
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    def plain(place: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()

    ids = torch.tensor(job["ids"])
    logits: dict[str, Any] = {}
    with torch.no_grad():
        for place, arguments in job["save"].items():
            torch.manual_seed(3)
            config = peft.LoraConfig(task_type="CAUSAL_LM", **arguments)
            adapted = peft.get_peft_model(plain(job["model"]), config)
            for name, parameter in adapted.named_parameters():
                if "lora_A" in name or "lora_B" in name:
                    parameter.normal_(std=0.3)
                elif "lora_embedding_" in name or ".modules_to_save." in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
                elif "magnitude" in name:
                    parameter.mul_(1.5)
            adapted.save_pretrained(place)
            logits[place] = adapted.eval()(ids).logits.numpy()
        for name, place in job["load"].items():
            if (Path(place) / "config.json").exists():
                model = plain(place)
            else:
                model = peft.PeftModel.from_pretrained(plain(job["model"]), place).eval()
                assert not list(missing(model, place)), "keys that the model has no place for"
            logits[name] = model(ids).logits.numpy()
    np.savez(job["output"], **logits)


def missing(model: Any, place: str) -> Any:
    """Matrices of the file that are nowhere in the model."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    held = get_peft_model_state_dict(model)
    for name, tensor in load_file(f"{place}/adapter_model.safetensors").items():
        if name not in held or not (held[name] == tensor).all():
            yield name


if __name__ == "__main__":
    main(*sys.argv[1:])
