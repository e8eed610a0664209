"""Any checkpoint to one canonical mapping of torch's names."""
