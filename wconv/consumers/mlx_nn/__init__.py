"""mlx.nn: whole modules of torch laid out by the classes of their layers."""
