"""mlx-lm: its tables are the files in `tables`, one for each model type.

mlx-lm decodes DeepSeek's 8-bit blocks as `dequantized` does, and takes no other model's; mlx-vlm makes 8 bits
of its own of them, but for models with experts. Kimi K2's experts in 4 bits mlx-lm takes as published and
stacks itself.
"""
