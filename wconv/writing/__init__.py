"""A plan fixes every output byte's place; the writer streams them there; one step puts them in place."""
