"""Reads a whole .pt file with torch."""

import sys

import torch

print(len(torch.load(sys.argv[1], weights_only=True)))
