"""Comparisons with torch: files that it writes and reads, and the shim beside it."""
