"""Videos, through PyAV (requirements-video.txt): frame after frame, and copies with other pictures."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Callable

import numpy as np

from utils.data.image_io import MAX_PIXELS
from utils.errors import BadFile

MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "opus", "alac")  # others go into Matroska as they are
QUALITY = "20"  # x264's constant rate factor: lower is better, 18 passes for lossless

Frames = Iterator[tuple[float, np.ndarray]]


def length(path: Path) -> int:
    """About how many frames a video has, 1 or more, as its header tells. Raises BadFile."""
    with _opened(path) as video:
        stream = _pictures(video, path)
        return max(1, stream.frames or int((video.duration or 0) / 1e6 * _rate(stream)))


def suffix_of_copy(path: Path) -> str:
    """.mp4 where the sound fits into it as it is, else .mkv. Raises BadFile."""
    with _opened(path) as video:
        fits = all(stream.codec_context.name in MP4_SOUND for stream in _sound(video, path))
        return ".mp4" if fits else ".mkv"


def redraw(path: Path, file: BinaryIO, suffix: str, change: Callable[[Frames], Iterator[np.ndarray]]) -> None:
    """Copies a video to ``file`` with every picture replaced; times stay, sound is copied bit for bit.

    Pictures of odd sides are extended by a row or column, as H.264 needs even ones.

    Args:
        suffix: what `suffix_of_copy` says.
        change: takes frames, (time in seconds, uint8 (H, W, 3) as a player shows them), and yields a picture
            of the same size for each, in order; it may read ahead.

    Raises:
        BadFile: the video cannot be read, or its frames change their size.
    """
    av = _pyav(path)
    container = {".mp4": "mp4", ".mkv": "matroska"}[suffix]
    with _opened(path) as given, _copying(path), av.open(file, "w", format=container) as made:
        stream = _pictures(given, path)
        encoder = made.add_stream("libx264", rate=_rate(stream), options={"crf": QUALITY})
        sound = {each.index: made.add_stream_from_template(each) for each in _sound(given, path)}
        source = _Source(path, given, stream, sound)
        # FFmpeg decodes and encodes in threads of its own, beside the network.
        for number, picture in enumerate(change(source.frames())):
            if number == 0:
                _set_up(encoder, source)
            frame = av.VideoFrame.from_ndarray(_even(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601")
            frame.pts, frame.time_base = source.stamps.popleft(), stream.time_base
            made.mux(encoder.encode(frame))
            _mux_sound(made, source)
        made.mux(encoder.encode())
        _mux_sound(made, source)


class _Source:
    """Reads a video once; sound waits in ``packets``, the times of pictures in ``stamps``."""

    def __init__(self, path: Path, video, stream, sound: dict):
        self.path, self.video, self.stream, self.sound = path, video, stream, sound
        self.stamps, self.packets = deque(), deque()
        self.shape: tuple[int, ...] | None = None
        self.following = 0  # the time of a picture that has none

    @property
    def width(self) -> int:
        return self.shape[1] + self.shape[1] % 2

    @property
    def height(self) -> int:
        return self.shape[0] + self.shape[0] % 2

    def frames(self) -> Frames:
        tick = 1 / _rate(self.stream) / self.stream.time_base
        with _reading(self.path):
            for packet in self.video.demux([self.stream, *(self.video.streams[each] for each in self.sound)]):
                if packet.stream.index in self.sound:
                    if packet.dts is not None:  # None ends a stream
                        packet.stream = self.sound[packet.stream.index]
                        self.packets.append(packet)
                    continue
                for frame in packet.decode():
                    picture = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                    self.shape = self.shape or picture.shape
                    if picture.shape != self.shape:
                        raise BadFile(f"{self.path}: its frames change their size at {frame.time:.2f} s; "
                                      "save the parts as videos of their own")
                    stamp = self.following if frame.pts is None else frame.pts
                    self.stamps.append(stamp)
                    self.following = int(stamp + tick)
                    yield float(stamp * self.stream.time_base), picture
        if self.shape is None:
            raise BadFile(f"{self.path}: holds no picture that can be decoded")


def _set_up(encoder, source: _Source) -> None:
    """What must be known before the first picture is encoded."""
    encoder.width, encoder.height, encoder.pix_fmt = source.width, source.height, "yuv420p"
    context = encoder.codec_context
    context.time_base = source.stream.time_base
    # BT.601 in limited range, and saying so: players guess by the size otherwise.
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 5, 5, 6


def _mux_sound(made, source: _Source) -> None:
    while source.packets:
        made.mux(source.packets.popleft())


def _even(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _rate(stream) -> Fraction:
    """Frames per second on average."""
    return stream.average_rate or Fraction(25)


def _pictures(video, path: Path):
    stream = video.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise BadFile(f"{path}: holds no pictures of a known kind, expected a video")
    if stream.width * stream.height > MAX_PIXELS:
        raise BadFile(f"{path}: its frames have more than {MAX_PIXELS // 10**6} million pixels")
    return stream


def _sound(video, path: Path) -> list:
    if any(stream.codec_context is None for stream in video.streams.audio):
        raise BadFile(f"{path}: its sound is of no known kind; save the video without it")
    return list(video.streams.audio)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    """The container, closed at the end. Raises BadFile."""
    av = _pyav(path)
    with contextlib.ExitStack() as stack:
        with _reading(path):
            if not path.is_file():
                raise BadFile(f"{path}: is not there, or no file")
            file = stack.enter_context(open(path, "rb", buffering=io.DEFAULT_BUFFER_SIZE))
            # A playlist must not lead to other files or into the network.
            video = av.open(file, options={"protocol_whitelist": "none"})
        yield stack.enter_context(video)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what FFmpeg says of a stranger's file into a BadFile that names it."""
    av = _pyav(path)
    try:
        yield
    except BadFile:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadFile(f"{path}: cannot be read as a video ({reason}); replace it or leave it out") from error


@contextlib.contextmanager
def _copying(path: Path) -> Iterator[None]:
    """Turns what FFmpeg says of parts that it read but cannot put together again into a BadFile.

    What the disk says goes to `atomic_write`.
    """
    av = _pyav(path)
    try:
        yield
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise BadFile(f"{path}: cannot be copied as a video ({error.strerror}); convert it first") from error


def _pyav(path: Path):
    try:
        import av
    except ImportError as error:
        raise BadFile(f"{path}: videos need PyAV; install it: python -m pip install -r "
                      "requirements-video.txt") from error
    av.logging.set_level(av.logging.PANIC)  # the exceptions tell
    return av
