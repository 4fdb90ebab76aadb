"""Synthetic images, scans and weights, to try programs on and to test them."""
