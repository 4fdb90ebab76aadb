"""A trained network as a function of images, for programs and for use from Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Callable, Union

import numpy as np
from PIL import Image

from lib.registry import identify_network
from lib.trained import Usage, settings_of, usage_of
from utils.checkpoint import Checkpoint, load_weights, read_checkpoint
from utils.data.image_io import name_some, read_rgb
from utils.data.polyps import normalise
from utils.errors import BadFile, UserError
from utils.runtime import backend
from utils.runtime.memory import is_device_full

FLIPS = ((2,), (3,), (2, 3))  # axes of (N,C,H,W): top to bottom, left to right, both

ImageLike = Union[str, os.PathLike, Image.Image, np.ndarray]


class Segmenter:
    """A network with trained weights, in testing mode.

    Args:
        weights: .npz of the program train, or the .pth or .pkl of another, or what is read of it.
        model_type: one of `lib.NETWORKS`; None takes what the weights say of themselves.
        size: side of the square that images are resized to, a multiple of 32; None takes that of the
            training, or as published: 352, with several classes 224.
        device: one of `utils.runtime.device.DEVICES`.
        flips: average the logits of the image and of its three mirror images, in four times the time.
        num_class, gain: see `lib.build_model`; None takes those of the weights.

    Attributes:
        usage: size, classes and gain that are taken.
        max_batch: images that the device's memory is trusted to hold; halved when it proves too small.

    Raises:
        UserError: a file cannot be read, a weight is missing or of another shape, a name or size is wrong.
    """

    def __init__(self, weights: str | os.PathLike | Checkpoint, model_type: str | None = None,
                 size: int | None = None, device: str = "auto", flips: bool = False,
                 num_class: int | None = None, gain: str | None = None):
        checkpoint = weights if isinstance(weights, Checkpoint) else read_checkpoint(weights)
        self.model_type = model_type or network_of(checkpoint)
        self.usage = usage_of(checkpoint, size, num_class, gain)
        self.usage.warn()
        self.size, self.flips, self.max_batch = self.usage.size, flips, sys.maxsize
        self.device = backend.prepare(device)
        self.model = load_model(self.model_type, checkpoint, self.usage)
        self._compiled = False

    def _in_batches(self, images: np.ndarray, finish: Callable[[object, slice], list[np.ndarray]],
                    ) -> Iterator[np.ndarray]:
        """Yields what ``finish`` makes of the logits (n,num_class,size,size) of a batch of the images.

        Raises:
            UserError: the device's memory does not hold a single image.
        """
        start = 0
        while start < len(images):
            batch = slice(start, min(start + self.max_batch, len(images)))
            results = self._try(images, batch, finish)
            if results is None:
                self._halve(batch.stop - batch.start)
            else:
                yield from results
                start = batch.stop

    def _try(self, images: np.ndarray, batch: slice, finish: Callable) -> list[np.ndarray] | None:
        """The results, or None where the device's memory does not hold that many images."""
        compiling = nullcontext() if self._compiled else backend.compiling("first image")
        try:
            with compiling, backend.jt.no_grad():
                results = finish(self._logits(backend.jt.array(images[batch])), batch)
        except RuntimeError as error:
            if not is_device_full(error):
                raise
            return None
        self._compiled = True
        return results

    def _logits(self, images):
        """Logits (N,num_class,size,size): the mean over the mirror images, each mirrored back."""
        logits = self.model.final_logits(self.model(images))
        for axes in FLIPS if self.flips else ():
            mirrored = self.model.final_logits(self.model(backend.jt.flip(images, list(axes))))
            logits += backend.jt.flip(mirrored, list(axes))
        return logits / (1 + len(FLIPS)) if self.flips else logits

    def _halve(self, tried: int) -> None:
        """Halves the batch after ``tried`` images at a time were too many."""
        backend.jt.gc()  # what was allocated on the way is kept for the next try otherwise
        if tried == 1:
            raise UserError(f"the device's memory does not hold one image at {self.size}x{self.size} pixels; "
                            "take a smaller --testsize, or --device cpu")
        self.max_batch = tried // 2
        print(f"the device's memory does not hold {tried} images at a time; going on with {self.max_batch}",
              file=sys.stderr)


class PolypSegmenter(Segmenter):
    """A binary network as a function of pictures; see `Segmenter`.

    Raises:
        UserError: the weights are of several classes.
    """

    def __init__(self, weights: str | os.PathLike | Checkpoint, *args, **options):
        super().__init__(weights, *args, **options)
        if self.model.num_class > 1:
            raise UserError(f"{weights}: are of {self.model.num_class} classes, this is for one; take "
                            "`test --task multiclass`")

    def predict(self, image: ImageLike) -> np.ndarray:
        """The probability of polyp at every pixel: float32 (H, W) in [0, 1].

        Args:
            image: a file, a PIL image, or uint8 (H, W, 3) in RGB.
        """
        name = "the image"
        if isinstance(image, (str, os.PathLike)):
            name = str(image)
            image = read_rgb(image)
        elif isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        picture = image.convert("RGB")
        return next(self.maps(normalise(picture, self.size)[None], [(picture.height, picture.width)],
                              names=[name]))

    def maps(self, images: np.ndarray, sizes: Sequence[tuple[int, int]], minmax: bool = False,
             names: Sequence[str] | None = None) -> Iterator[np.ndarray]:
        """Yields the map of each image, float32 (height, width) of its size; see `finish_map`.

        Args:
            images: float32 (N,3,size,size) as `utils.data.polyps.normalise` gives them.
            names: of the images, for errors.

        Raises:
            UserError: the device's memory does not hold a single image.
            BadFile: the network's values for an image are not finite.
        """
        for outcome in self.try_maps(images, sizes, minmax, names):
            if isinstance(outcome, BadFile):
                raise outcome
            yield outcome

    def try_maps(self, images: np.ndarray, sizes: Sequence[tuple[int, int]], minmax: bool = False,
                 names: Sequence[str] | None = None) -> Iterator[np.ndarray | BadFile]:
        """Yields what `maps` does, and goes on after an image whose map would raise BadFile: yields that."""
        names = names or [f"image {number} of {len(images)}" for number in range(1, len(images) + 1)]

        def finish(logits, batch: slice) -> list[np.ndarray | BadFile]:
            return [defect or finish_map(logits[index:index + 1], size, minmax)
                    for index, (defect, size) in enumerate(zip(defects(logits, names[batch]), sizes[batch]))]

        return self._in_batches(images, finish)


class ScanSegmenter(Segmenter):
    """A network of many classes as a function of slices; see `Segmenter`."""

    def label_maps(self, images: np.ndarray, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Yields the label map of each image, uint8 (size,size).

        Args:
            images: float32 (N,C,size,size) as `utils.data.slices.network_input` gives them.
            names: of the images, for errors.

        Raises:
            UserError: the device's memory does not hold a single image.
            BadFile: the network's values for an image are not finite.
        """
        return self._in_batches(images, lambda logits, batch: list(argmax_labels(logits, names[batch])))


def argmax_labels(logits, names: Sequence[str]) -> np.ndarray:
    """Logits (N,num_class,h,w) to label maps uint8 (N,h,w): the class of the highest, the first of equals.

    Raises BadFile where the logits of an image of these names are not finite.
    """
    check_logits(logits, names)
    return np.argmax(logits.numpy(), axis=1).astype(np.uint8)


def defects(logits, names: Sequence[str]) -> list[BadFile | None]:
    """For each image the defect of its logits, of (N,num_class,h,w), if they are not finite."""
    finite = np.isfinite(logits.numpy()).all(axis=(1, 2, 3))
    return [None if good else BadFile(f"{name}: what the network gives for it is not finite; look at the "
                                      "file, or take other weights or --precision fp32")
            for good, name in zip(finite, names)]


def check_logits(logits, names: Sequence[str]) -> None:
    """Raises BadFile for the first image whose logits, of (N,num_class,h,w), are not finite."""
    for defect in defects(logits, names):
        if defect:
            raise defect


def network_of(checkpoint: Checkpoint) -> str:
    """The network that a file says it is of, or whose names its arrays have. Raises UserError if neither."""
    name = settings_of(checkpoint).get("model_type") or identify_network(checkpoint.arrays)
    if name is None:
        raise UserError(f"{checkpoint}: does not say which network it is of, and has the names of none; give "
                        "--model_type")
    return name


def finish_map(logits, size: tuple[int, int], minmax: bool) -> np.ndarray:
    """Logits (1,1,h,w) to a map float32 (height, width) in [0,1]: resize, sigmoid, stretch to the full range.

    The extremes are those of the one image; the published Jittor script takes them over the batch.
    """
    from lib.ops import resize_bilinear

    values = backend.jt.sigmoid(resize_bilinear(logits, size)).numpy()[0, 0]
    if minmax:
        values = (values - values.min()) / (values.max() - values.min() + 1e-8)
    return values


def load_model(model_type: str, checkpoint: Checkpoint, usage: Usage | None = None):
    """The network in testing mode, to be used as the weights say where nothing else is given.

    Raises:
        UserError: a weight is missing or of another shape.
    """
    from lib.assembly import build_model

    usage = usage or usage_of(checkpoint)
    model = build_model(model_type, usage.num_class, usage.gain)
    unexpected = load_weights(model, checkpoint, allow_unexpected=True).unexpected
    if unexpected:
        print(f"{checkpoint}: {len(unexpected)} names are not part of {model_type} and are left out: "
              f"{name_some(list(unexpected))}")
    model.eval()
    model.fuse()
    return model
