"""Comparisons with the programs that load results, a folder for each; here, what concerns several of them."""
