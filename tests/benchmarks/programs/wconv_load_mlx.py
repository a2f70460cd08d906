"""Reads a whole checkpoint into MLX arrays with wconv."""

import sys

import wconv

print(len(wconv.load_mlx(sys.argv[1])))
