"""Flags that several programs share, and the options that are made of them."""
