"""Parts of the program test: one module for each task."""
