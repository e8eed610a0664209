"""What a network is, its weights, and the ways to run it."""
