"""Comparisons with the client of the hub."""
