"""Layouts as TOML files: what `--rules` takes and `wconv rules` prints."""
