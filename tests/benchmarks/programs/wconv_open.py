"""Opens a PyTorch checkpoint with wconv, without reading its data."""

import sys

import wconv

print(len(wconv.open(sys.argv[1])))
