"""kohya's scripts, which train adapters."""
