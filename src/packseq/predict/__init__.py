"""Predictions for a table with a column of sequences: Arrow in, Arrow out, no engine, no files."""
