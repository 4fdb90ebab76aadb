"""Damaged copies of files."""

from __future__ import annotations

import numpy as np


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with a few bytes flipped, overwritten or taken out, mostly near its beginning or end."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        if not changed:
            break
        place = int(rng.choice([rng.integers(len(changed)), rng.integers(300), -rng.integers(1, 2000)]))
        place %= len(changed)
        change = rng.integers(3)
        if change == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif change == 1:
            changed[place:place + 4] = bytes([rng.choice([0, 127, 255])]) * 4
        else:
            del changed[place:place + int(rng.integers(1, 50))]
    return bytes(changed)
