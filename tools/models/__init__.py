"""The parts of try_models.py: packages unpacked, names given, models in their own runtimes."""
