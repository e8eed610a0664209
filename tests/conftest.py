"""Settings that every test shares."""

from hypothesis import settings

# A deadline would fail a correct test on a busy machine.
settings.register_profile("packseq", deadline=None)
settings.load_profile("packseq")
