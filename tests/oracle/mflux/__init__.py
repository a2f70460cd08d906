"""Comparisons with mflux."""
