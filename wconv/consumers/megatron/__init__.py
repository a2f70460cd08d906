"""Megatron-Core, whose training checkpoints are given the hub's names."""
