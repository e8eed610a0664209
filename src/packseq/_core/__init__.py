"""What is compiled: thin bindings of loops in C, which run without the GIL.

Their callers have checked what comes here, but for plain calls, which are taken as users make them.
"""
