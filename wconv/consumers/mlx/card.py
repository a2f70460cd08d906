"""The model card of an MLX model on the hub: README.md, whose first lines say what it was made of.

Fact: mlx-lm 0.32.2, `utils.py: create_model_card, upload_to_hub` (`library_name`, `base_model`, `tags`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

FENCE = "---"
OWN = ("library_name", "base_model")
FIELD = re.compile(r"([A-Za-z_][\w-]*)\s*:(.*)", re.ASCII)


def make_card(repository: str, base: str | None, done: Iterable[str], command: str, before: str) -> str:
    """The text of README.md.

    Args:
        repository: "org/name", where the model goes.
        base: the model of the hub that it was made of; None where it is none.
        done: what was done, line by line.
        command: loads the result; "" where no program is known to.
        before: README.md of the source, whose licence and languages are kept; "" without.
    """
    fields = _fields(before)
    kept = [line for name, block in fields if name not in (*OWN, "tags") for line in block]
    tags = next((block for name, block in fields if name == "tags"), ["tags:"])
    head = [*kept, *_with_tag(tags), "library_name: mlx"]
    if base is not None:
        head.append(f"base_model: {json.dumps(base)}")
    origin = f" from [{base}](https://huggingface.co/{base})" if base is not None else ""
    use = ["", "## Use", "", "```bash", command, "```"] if command else []
    text = [
        *(FENCE, *head, FENCE, ""),
        f"# {repository}",
        "",
        f"Converted to MLX{origin} with [wconv](https://pypi.org/project/wconv/):",
        "",
        *("```text", *done, "```"),
        *use,
    ]
    return "\n".join(text) + "\n"


def _fields(text: str) -> list[tuple[str, list[str]]]:
    """The fields at the head of a card, each with its lines as they are."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != FENCE or FENCE not in (line.strip() for line in lines[1:]):
        return []
    fields: list[tuple[str, list[str]]] = []
    for line in lines[1:]:
        if line.strip() == FENCE:
            break
        found = FIELD.match(line)
        if found:
            fields.append((found[1], [line]))
        elif fields:
            fields[-1][1].append(line)
    return fields


def _with_tag(block: list[str]) -> list[str]:
    """The field of tags with that of MLX among them."""
    words = re.findall(r"[\w-]+", " ".join(block).partition(":")[2])
    if "mlx" in words:
        return block
    inline = re.fullmatch(r"(tags\s*:\s*\[)(.*)(\]\s*)", block[0])
    if inline:
        return [f"{inline[1]}{inline[2]}{', ' if inline[2].strip() else ''}mlx{inline[3]}", *block[1:]]
    indent = next((line[: line.index("-")] for line in block[1:] if line.lstrip().startswith("-")), "")
    return [*block, f"{indent}- mlx"]
