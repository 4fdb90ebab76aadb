"""Data, files, checkpoints, metrics and the runtime. Nothing here builds or imports a network."""
