"""What charts in reports and in pictures share: the marks of an axis and the colours of lines."""

from __future__ import annotations

import math

Colour = tuple[int, int, int]

# Okabe and Ito's colours, which colour-blind eyes tell apart.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))


def ticks(low: float, high: float, max_steps: int) -> list[float]:
    """Round numbers in even steps around ``low`` to ``high``.

    Args:
        max_steps: 5 or more; the steps are 1, 2 or 5 times a power of ten, at most so many between the two.
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(factor * power for factor in (0.2, 0.5, 1, 2) if span <= max_steps * factor * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
