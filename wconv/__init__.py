"""Move model weights without torch."""
