"""The parts of the program train: options, run folder, logs, validation, pictures."""
