"""The rules on quantization in a rules file: which layers `-q` stores in another way.

quantize = [
  { match = "lm_head|embed_tokens", bits = 8 },
  { match = '\\.(0|1)\\..*', bits = 6, group_size = 32 },
  { match = "router", quantize = false },
]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import WconvError
from wconv.layouts.file.fields import FLAG, NUMBER, TEXT, ValueKind, WrongRuleError
from wconv.layouts.layer_rule import LayerRule

KEYS: Mapping[str, ValueKind] = {
    "match": TEXT,
    "bits": NUMBER,
    "group_size": NUMBER,
    "mode": TEXT,
    "quantize": FLAG,
}
"""The keys of a rule, and what each holds."""


def read(entry: Any) -> LayerRule:
    """A rule out of a table of a rules file.

    Raises:
        WrongRuleError: naming the key at fault.
    """
    if not isinstance(entry, Mapping):
        raise WrongRuleError(
            f'{entry!r:.60} is no rule on quantization: write {{ match = "lm_head", bits = 8 }}'
        )
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in KEYS:
            raise WrongRuleError(
                f"{key!r:.60} is no key of a rule on quantization: one of {', '.join(KEYS)}", key
            )
        values[key] = KEYS[key].read(value, key)
    if "match" not in values:
        raise WrongRuleError("a rule on quantization needs 'match': an expression for the paths of layers")
    wanted = values.pop("quantize", None)
    how = next((key for key in ("bits", "group_size", "mode") if key in values), None)
    if wanted is False and how is not None:
        raise WrongRuleError(f"quantize = false keeps layers dense: leave out {how}, or quantize", how)
    if wanted is not False and "bits" not in values:
        raise WrongRuleError("a rule on quantization needs 'bits', or quantize = false for dense layers")
    rule = LayerRule(values["match"], values.get("bits"), values.get("group_size"), values.get("mode"))
    for key, check in (("match", lambda: rule.matching(())), ("bits", rule.check)):
        try:
            check()
        except WconvError as error:
            raise WrongRuleError(str(error), key) from None
    return rule


def plain(rule: LayerRule) -> dict[str, Any]:
    """A rule as the table that `read` reads back."""
    if rule.bits is None:
        return {"match": rule.pattern, "quantize": False}
    said = {"match": rule.pattern, "bits": rule.bits, "group_size": rule.group_size, "mode": rule.mode}
    return {key: value for key, value in said.items() if value is not None}
