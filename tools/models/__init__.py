"""What try_models.py is made of: packages unpacked, names given, and models in their own runtimes."""
