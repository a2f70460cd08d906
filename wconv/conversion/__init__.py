"""From a request to a plan to files: what `wconv.convert` does."""
