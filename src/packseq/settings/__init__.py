"""What a process sets: threads, backend, instruction set."""
