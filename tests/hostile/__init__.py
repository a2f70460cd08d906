"""Unsafe and malformed files, written at test time, and the guarded process that reads them.

`assemble` and `containers` write pickles and the files around them without torch and without checking
anything; the case tables (`code`, `views`, `archives`, ...) use them; `guard` and `run` read the cases in a
process whose audit hook allows nothing but reading the case's own directory.
"""
