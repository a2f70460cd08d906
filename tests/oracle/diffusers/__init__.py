"""Comparisons with diffusers."""
