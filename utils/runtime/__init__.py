"""Jittor and the machine that it runs on: device, requirements, cache, CUDA, compilation, ranks' messages."""
