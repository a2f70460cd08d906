"""Reads a whole checkpoint into numpy arrays with wconv."""

import sys

import wconv

print(len(wconv.load(sys.argv[1])))
