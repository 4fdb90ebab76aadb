"""What a file of weights says of its training. Others may have written it, so it is checked like a flag."""

from __future__ import annotations

from typing import Callable

from lib.registry import GAINS, MAX_SIZE, NETWORKS, SIZE_DIVISOR, TASKS
from utils.checkpoint import Checkpoint
from utils.data.scans import LABEL_MAPS, MAX_CLASSES
from utils.errors import UserError

MAX_GREY = 1e30  # of a window: float32 holds it


def settings_of(checkpoint: Checkpoint) -> dict[str, object]:
    """Those of `SETTINGS` that a file of weights tells of its training.

    Raises:
        UserError: the file says something that no training has: it is named, with what is expected.
    """
    said = {name: checkpoint.info[name] for name in SETTINGS if checkpoint.info.get(name) is not None}
    for name, value in said.items():
        is_sound, expected = SETTINGS[name]
        if not is_sound(value):
            raise UserError(f"{checkpoint}: says {name} {repr(value)[:60]}, expected {expected}; if the "
                            "weights themselves are good, `convert --out FILE.pth` leaves out what they say")
    return said


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _one_of(*values: object) -> Callable[[object], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _is_size(value: object) -> bool:
    return _whole(SIZE_DIVISOR, MAX_SIZE)(value) and value % SIZE_DIVISOR == 0


def _is_window(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or [*map(type, value)] not in ([float, float], [int, int]):
        return False
    return -MAX_GREY < value[0] < value[1] < MAX_GREY


# By name: whether a value is one that a training has, and what is expected in words.
SETTINGS: dict[str, tuple[Callable[[object], bool], str]] = {
    "task": (_one_of(*TASKS), " or ".join(TASKS)),
    "model_type": (_one_of(*NETWORKS), f"one of the known ones: {', '.join(NETWORKS)}"),
    "num_class": (_whole(1, MAX_CLASSES), f"a number from 1 to {MAX_CLASSES}"),
    "gain": (_one_of(*GAINS), f"one of {', '.join(GAINS)}"),
    "trainsize": (_is_size, f"a multiple of {SIZE_DIVISOR} up to {MAX_SIZE}"),
    "slice_axis": (_one_of(0, 1, 2), "0, 1 or 2"),
    "window": (_is_window, "two grey levels, the lower one first"),
    "label_map": (_one_of(*LABEL_MAPS), f"one of {', '.join(LABEL_MAPS)}"),
}
