"""mflux's tables."""
