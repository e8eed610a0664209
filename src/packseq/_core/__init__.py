"""Compiled loops: thin bindings that check nothing, allocate nothing and release the GIL."""
