"""The engine of layouts: patterns over names, rules, and their application in both directions."""
