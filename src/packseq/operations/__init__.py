"""What can be done to packed rows, as functions of rows (N, *) and their plan.

Nothing goes through a padded array.
"""
