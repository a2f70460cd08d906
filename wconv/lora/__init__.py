"""Low-rank adapters: read in every spelling, added to a model's weights, written for their consumers."""
