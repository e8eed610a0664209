"""What can be done to packed rows: functions of rows and a plan, which PackedSequence's methods call.

Everything is checked here or above; nothing goes through a padded array.
"""
