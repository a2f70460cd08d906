"""The programs that load what wconv writes: for each a folder with its tables."""
