"""diffusers' tables, and those of the single files that Black Forest Labs publish."""
