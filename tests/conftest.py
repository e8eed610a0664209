"""Settings that every test shares."""

from hypothesis import settings

# The same examples on every run: a failure in CI is one that anybody can repeat. A deadline would
# fail a correct test on a busy machine.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=20)
settings.load_profile("repeatable")
