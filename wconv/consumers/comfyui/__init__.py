"""ComfyUI, which loads adapters."""
