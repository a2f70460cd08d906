"""Weights that others stored in few bits, by scheme."""
