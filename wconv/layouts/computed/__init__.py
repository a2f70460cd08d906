"""Rules that compute: scales decoded, weight norm folded, heads and gates put in another order."""
