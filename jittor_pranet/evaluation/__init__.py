"""Parts of the program evaluate: one module for each task, and the writer of its files."""
