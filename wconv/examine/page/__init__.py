"""The page of `wconv inspect --html`: one file that a browser shows without a network."""
