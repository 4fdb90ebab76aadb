"""What the program `benchmark` can time, a module each, and what they share."""
