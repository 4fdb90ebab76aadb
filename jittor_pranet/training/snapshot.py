"""The folder of a run: the state that it is resumed from, and the weights for everybody else.

`state.npz` alone suffices to resume. The weight files are written around it in an order that makes any moment
of a kill harmless: the best ones before the state that knows of them, `last.npz` after the state it is taken
from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from utils.checkpoint import check_values, read_checkpoint, read_info, save_arrays, save_weights
from utils.errors import UserError

STATE, LAST, BEST = "state.npz", "last.npz", "best.npz"
AVERAGE, BEST_AVERAGE = "ema.npz", "best_ema.npz"
WEIGHT_FILES = (STATE, LAST, BEST, AVERAGE, BEST_AVERAGE)
FORMAT = 2  # of state.npz

Parts = dict[str, dict]  # {kind: {published name: variable}}


@dataclass
class Position:
    """Where a run stands. All else follows: epoch, batch and scale, the rate, every random draw.

    Attributes:
        step: optimizer steps done.
        ended: the step at which the last epoch ended, its validation included.
        best: highest mDice so far by the file that holds its weights, `BEST` or `BEST_AVERAGE`.
    """

    step: int = 0
    ended: int = 0
    best: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = type(self.step) is type(self.ended) is int and 0 <= self.ended <= self.step < 1 << 62
        if not (whole and isinstance(self.best, dict) and self.best.keys() <= {BEST, BEST_AVERAGE}
                and all(type(dice) is float and 0 <= dice < 2 for dice in self.best.values())):
            raise ValueError(f"position {str(self)[:200]}")


@dataclass(frozen=True)
class Snapshot:
    """What `state.npz` holds."""

    source: Path
    config: dict
    position: Position
    data: str  # fingerprint of the training set
    channels: int | None  # of the images; None where an earlier version wrote it
    arrays: dict[str, np.ndarray] = field(repr=False)  # KIND/NAME; kinds are weights, mean, square, average

    def part(self, kind: str) -> dict[str, np.ndarray]:
        """The arrays of one kind by published name."""
        prefix = f"{kind}/"
        return {name[len(prefix):]: array for name, array in self.arrays.items() if name.startswith(prefix)}


def read_snapshot(folder: Path) -> Snapshot:
    """Raises UserError when there is no state to resume from, or an incomplete one."""
    path = folder / STATE
    if not path.exists():
        raise UserError(f"{folder}: has no {STATE} to resume from; give the --train_save of an earlier run")
    checkpoint = read_checkpoint(path)
    info = checkpoint.info
    try:
        if info["format"] != FORMAT:
            raise UserError(f"{path}: has format {info['format']}, expected {FORMAT}; resume it with the "
                            f"version that wrote it, or start a new run with --weights {folder / LAST}")
        return Snapshot(path, dict(info["config"]), Position(**info["position"]), str(info["data"]),
                        info.get("channels"), checkpoint.arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is no state of a training ({type(error).__name__}: {error}); start a new "
                        f"run with --weights {folder / LAST}") from error


def write_snapshot(folder: Path, parts: Parts, position: Position, config: dict, data: str, channels: int,
                   ) -> None:
    """Writes `state.npz`, then the weight files that are taken from it.

    Raises:
        UserError: a value is not finite, or the disk is full; the earlier snapshot stays.
    """
    arrays = {f"{kind}/{name}": variable.numpy() for kind, variables in parts.items()
              for name, variable in variables.items()}
    broken = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if broken:
        raise UserError(f"{broken} is no longer finite after step {position.step}; what {folder} holds is "
                        "kept. Start again with a lower --lr")
    info = {"format": FORMAT, "config": config, "position": asdict(position), "data": data,
            "channels": channels}
    save_arrays(arrays, folder / STATE, info)
    _write_derived(Snapshot(folder / STATE, config, position, data, channels, arrays))


def write_best(path: Path, model, dice: float, step: int, config: dict, channels: int) -> None:
    """Writes `best.npz` or `best_ema.npz`; the state that knows of it has to follow."""
    save_weights(model, path, {**weights_info(step, config, channels), "mDice": dice})


def restore(snapshot: Snapshot, parts: Parts) -> None:
    """Sets all variables to the snapshot's.

    Raises:
        UserError: the snapshot does not fit the network, or a value is none that it can have.
    """
    for kind, variables in parts.items():
        arrays = snapshot.part(kind)
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise UserError(f"{snapshot.source}: the names and shapes of its {kind} are not those of the "
                            "network; resume it with the version that wrote it")
        for name, variable in variables.items():
            check_values(str(snapshot.source), f"{kind}/{name}", arrays[name], str(variable.dtype))
            variable.update(arrays[name].astype(str(variable.dtype)))


def mend_derived(snapshot: Snapshot) -> None:
    """Writes the weight files anew where a kill has left older ones than the state."""
    last = snapshot.source.with_name(LAST)
    if not last.exists() or read_info(last).get("step") != snapshot.position.step:
        _write_derived(snapshot)


def _write_derived(snapshot: Snapshot) -> None:
    """`last.npz` comes last: that it is of this step tells that all are."""
    info = weights_info(snapshot.position.step, snapshot.config, snapshot.channels)
    for kind, name in (("average", AVERAGE), ("weights", LAST)):
        arrays = snapshot.part(kind)
        if arrays:
            save_arrays(arrays, snapshot.source.with_name(name), info)


def weights_info(step: int, config: dict, channels: int | None) -> dict:
    return {**config, "step": step, "channels": channels}
