"""Which weights a consumer's own converter would quantize, and how, known from names and shapes alone."""

from wconv.consumers.quantization.choice import LayerChoice, choose_layers
from wconv.consumers.quantization.recipes import Quantize, parse_rule
from wconv.layouts.layer_rule import LayerRule

__all__ = ["LayerChoice", "LayerRule", "Quantize", "choose_layers", "parse_rule"]
