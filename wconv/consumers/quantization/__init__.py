"""Which weights a consumer's own converter would quantize, and how, known from names and shapes alone."""

from wconv.consumers.quantization.choice import Choice, choose
from wconv.consumers.quantization.recipes import Recipe, Rule, parse_rule

__all__ = ["Choice", "Recipe", "Rule", "choose", "parse_rule"]
