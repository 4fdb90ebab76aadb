"""Parts of the program evaluate: one module for each task, and the files that both write."""
