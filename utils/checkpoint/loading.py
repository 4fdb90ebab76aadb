"""Weights into a model and out of it.

A model is anything whose `state_dict()` gives {published name: variable}, where a variable has `shape`,
`dtype`, `numpy()` and `update(array)` as a Jittor Var has; running statistics count as variables. Names and
shapes of a model and a file have to be the same, except:

- `*.num_batches_tracked`: a counter of PyTorch's BatchNorm without use at a fixed momentum. Our networks have
  none, so a file's are passed over; PyTorch in turn loads files without them strictly.
- Names that begin with one of the model's `optional_keys` (none where it has no such attribute): parts that
  the published networks carry without using them, as Res2Net's classifier `fc` and the grey-input `conv` of
  the V2 networks. Where a file lacks them they keep their values.
- `head.*`, when an encoder alone is loaded: the ImageNet classifier in PVTv2's files, which no network has.

What is loaded has to be finite, of a floating-point type, and not below 0 where it is a `*.running_var`.

The shapes () and (1,) are the same, since Jittor has no ().

A model may have `identify(names)`, which gives the network that has these names, or None: the error of
weights that do not fit then says whose they are. An encoder may have `published_weights(weights)`, which puts
the weights of others' files under the published names.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

import numpy as np

from utils.checkpoint.formats import Checkpoint, read_weights
from utils.errors import UserError
from utils.files import atomic_write

# A file, or what it holds, or arrays by published name.
Source = Union[str, os.PathLike, Checkpoint, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Mismatch:
    """What of a source did not fit a model; false if all of it did."""

    missing: tuple[str, ...] = ()  # the model has them, the source has not
    unexpected: tuple[str, ...] = ()  # the source has them, the model has not
    misshaped: dict[str, tuple[tuple, tuple]] = field(default_factory=dict)  # name: (source's, model's shape)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def __str__(self) -> str:
        shapes = [f"{name} {given} instead of {wanted}" for name, (given, wanted) in self.misshaped.items()]
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", shapes))
        return "; ".join(f"{len(names)} {kind}: {_first_few(names)}" for kind, names in kinds if names)


def _first_few(names: tuple | list, few: int = 3) -> str:
    return ", ".join(names[:few]) + (", ..." if len(names) > few else "")


def load_weights(model, source: Source, strict: bool = True, allow_unexpected: bool = False) -> Mismatch:
    """Sets a model's variables, by the rules at the top of this file; arrays take the type of their variable.

    Args:
        allow_unexpected: names that the model lacks do not count when ``strict``. The published files of the
            V2 networks have some.

    Returns:
        What did not fit, which is nothing but allowed names if ``strict``; what fits is loaded.

    Raises:
        UserError: the file cannot be read, ``strict`` and something does not fit, or a value is none that a
            network has; the model is untouched.
    """
    weights, origin = _weights_of(source)
    return _load(model, weights, origin, strict, allow_unexpected)


def load_encoder_weights(encoder, source: Source) -> None:
    """Sets an encoder's variables from an ImageNet backbone, whose names have no prefix.

    Raises:
        UserError: the file cannot be read or does not fit; the encoder is untouched.
    """
    weights, origin = _weights_of(source)
    weights = getattr(encoder, "published_weights", dict)(weights)
    weights = {name: array for name, array in weights.items() if not name.startswith("head.")}
    _load(encoder, weights, origin, strict=True, allow_unexpected=False)


def _weights_of(source: Source) -> tuple[Mapping[str, np.ndarray], str]:
    """The arrays and what to call them in a message."""
    if isinstance(source, Mapping):
        return source, "the given weights"
    return source.arrays if isinstance(source, Checkpoint) else read_weights(source), str(source)


def _load(model, weights: Mapping[str, np.ndarray], origin: str, strict: bool,
          allow_unexpected: bool) -> Mismatch:
    weights = {
        name: np.asarray(array) for name, array in weights.items() if not name.endswith("num_batches_tracked")
    }
    variables = model.state_dict()
    mismatch = _compare(weights, variables, tuple(getattr(model, "optional_keys", ())))
    if strict and (mismatch.missing or mismatch.misshaped or (mismatch.unexpected and not allow_unexpected)):
        advice = _advice(model, weights, variables)
        raise UserError(f"{origin}: does not fit the model; {advice} ({mismatch})")
    fitting = {}
    for name, array in weights.items():
        if name in variables and name not in mismatch.misshaped:
            check_values(origin, name, array, str(variables[name].dtype))
            fitting[name] = array.astype(str(variables[name].dtype)).reshape(tuple(variables[name].shape))
    for name, array in fitting.items():  # nothing is set before everything is ready
        variables[name].update(array)
    return mismatch


def check_values(origin: str, name: str, array: np.ndarray, dtype: str = "float32") -> None:
    """Raises UserError, naming the array, whose values no network has: their maps would mean nothing."""
    def is_finite() -> bool:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(array.astype(dtype)).all())

    if np.dtype(dtype).kind == "f" and array.dtype.kind != "f":
        found = f"is of {array.dtype} numbers, floating-point ones are expected"
    elif not is_finite():
        found = f"is not finite: it holds NaN, or what is infinite as {dtype}"
    elif name.endswith("running_var") and (array < 0).any():
        found = "is a variance below 0"
    else:
        return
    raise UserError(f"{origin}: {name} {found}; take weights of an earlier moment of the training")


def _compare(weights: Mapping, variables: Mapping, optional: tuple[str, ...]) -> Mismatch:
    shared = [name for name in weights if name in variables]
    shapes = {name: (weights[name].shape, tuple(variables[name].shape)) for name in shared}
    return Mismatch(
        missing=tuple(name for name in variables if name not in weights and not name.startswith(optional)),
        unexpected=tuple(name for name in weights if name not in variables),
        misshaped={name: pair for name, pair in shapes.items() if len({shape or (1,) for shape in pair}) > 1},
    )


def _advice(model, weights: Mapping, variables: Mapping) -> str:
    identify = getattr(model, "identify", lambda names: None)
    given, wanted = identify(weights), identify(variables)
    if given is None or given == wanted:
        return "give weights that were saved from the same network"
    return f"the weights are those of {given}, the model is {wanted or 'another'}: choose one to match"


def save_weights(model, path: str | os.PathLike, info: dict | None = None) -> None:
    """Writes a model's variables as an .npz file under their published names; it appears whole or not at all.

    PyTorch loads it strictly: net.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(path).items()})
    The same weights and ``info`` give the same bytes.

    Args:
        info: goes along as JSON, for `read_info`, in the archive's comment, where np.load does not see it.

    Raises:
        ValueError: ``info`` takes more than 65535 bytes as JSON.
        UserError: the file cannot be written.
    """
    save_arrays({name: variable.numpy() for name, variable in model.state_dict().items()}, path, info)


def save_arrays(arrays: Mapping[str, np.ndarray], path: str | os.PathLike, info: dict | None = None,
                compressed: bool = False) -> None:
    """Writes arrays as `save_weights` does, for `read_weights` and `np.load`. Raises what that raises.

    On a full disk `np.savez` would print a traceback of its own.
    """
    comment = json.dumps(info).encode() if info else b""
    if len(comment) > zipfile.ZIP_MAX_COMMENT:
        raise ValueError(f"info takes {len(comment)} bytes as JSON, at most {zipfile.ZIP_MAX_COMMENT} fit")
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.comment = comment
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # which has a fixed date, unlike a bare name
            entry.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
