"""Where the work runs: ``cpu`` on NumPy arrays; others are imported only when asked for."""
