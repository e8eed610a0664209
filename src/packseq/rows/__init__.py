"""What lengths decide, and what is done to packed rows (N, *) by it, in arrays and in tensors.

Nothing goes through a padded array.
"""
