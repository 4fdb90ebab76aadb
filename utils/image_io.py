"""The public name of `utils.data.image_io`."""

from __future__ import annotations

from utils.data.image_io import find_images, find_pairs, read_grey, read_rgb, write_map

__all__ = ["find_images", "find_pairs", "read_grey", "read_rgb", "write_map"]
