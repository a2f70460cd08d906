"""Comparisons with JAX."""
