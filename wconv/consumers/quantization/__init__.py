"""Which weights a consumer's own converter would quantize, and how, known from names and shapes alone."""

from wconv.consumers.quantization.choice import Choice, choose
from wconv.consumers.quantization.recipes import Quantize, Rule, parse_rule

__all__ = ["Choice", "Quantize", "Rule", "choose", "parse_rule"]
