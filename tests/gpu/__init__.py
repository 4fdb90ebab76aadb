"""What only a GPU can tell; tests/gpu/run.sh runs it."""
