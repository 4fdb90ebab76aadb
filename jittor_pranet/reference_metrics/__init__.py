"""Reference implementations of the metrics, by their definitions: slow, for tests and timings."""
