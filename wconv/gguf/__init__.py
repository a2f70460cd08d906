"""GGUF files, by the converter that llama.cpp publishes, run without PyTorch."""
