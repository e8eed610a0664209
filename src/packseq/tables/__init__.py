"""Predictions for files of tables: in parts, with bounded memory, on all cores or on a cluster."""
