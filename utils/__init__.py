"""Data, files, checkpoints, metrics and the runtime. Nothing here knows a network."""
