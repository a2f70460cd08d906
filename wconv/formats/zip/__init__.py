"""Zip archives: their directory read fast, their bytes planned before they are written."""
