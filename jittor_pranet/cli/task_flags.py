"""Which flags are for one task alone: the one table of them, and what refuses a flag of the other task."""

from __future__ import annotations

from collections.abc import Mapping

from lib.registry import TASKS
from utils.errors import UserError

SCANS = ("num_class", "slice_axis", "window", "label_map")  # how scans are read
TASK_FLAGS = {
    "train": {
        "binary": ("flips", "hold_out", "rot90", "select_on_test", "test_path", "weighted_bce"),
        "multiclass": (*SCANS, "train_list", "val_path", "val_list", "no_augmentation",
                       "published_validation")},
    "test": {
        "binary": ("no_minmax", "threshold"),
        "multiclass": (*SCANS, "test_list", "nifti")},
    "evaluate": {
        "binary": ("mask_rule",),
        "multiclass": (*SCANS, "absent", "test_list", "class_names")},
    "check-data": {
        "binary": (),
        "multiclass": (*SCANS, "train_list", "test_list")},
}


def check_task_flags(program: str, task: str, values: Mapping[str, object],
                     unset: Mapping[str, object] | None = None) -> None:
    """Raises UserError where ``values`` of a program's flags hold one that is for another task than this.

    A flag is not given if its value is that in ``unset``, or else None or False.
    """
    for other in TASKS:
        for name in TASK_FLAGS[program][other] if other != task else ():
            given = values[name]
            if given != unset[name] if unset else given is not None and given is not False:
                hint = ", or give --task multiclass" if other == "multiclass" else ""
                raise UserError(f"--{name}: is not for --task {task}; leave it out{hint}")
