"""Keras's files: .keras, and .h5 of any version."""
