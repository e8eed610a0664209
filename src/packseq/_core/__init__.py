"""Compiled loops: thin bindings that release the GIL.

What reaches them was checked before, but for plain.pyx, which looks for itself.
"""
