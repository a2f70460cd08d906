"""The tables of mlx-examples, and of the packages that grew out of them."""
