"""Synthetic clips for the tests: a window that moves over a synthetic polyp, with a tone."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.data.synthetic.polyps import synthetic_polyp

RATE, SOUND_RATE = 10, 8000


def synthetic_frames(count: int, height: int, width: int) -> np.ndarray:
    """uint8 (count, height, width, 3)."""
    picture, _ = synthetic_polyp(np.random.default_rng(0), max(height, width) + count)
    return np.stack([picture[number:number + height, number:number + width] for number in range(count)])


def write_clip(path: Path, frames: np.ndarray, codec: str = "libx264", sound: str | None = "aac",
               times_ms: list[int] | None = None) -> None:
    """A video of RATE frames in a second, or with each at its time; ``sound`` is the codec of the tone."""
    import av

    with av.open(str(path), "w") as clip:
        stream = clip.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        tone = clip.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode())
        if tone is not None:
            for frame in _tone(av, len(frames) / RATE):
                clip.mux(tone.encode(frame))
            clip.mux(tone.encode())


def rotate_clip(path: Path) -> None:
    """Marks an .mp4 to be shown turned by a quarter clockwise, as telephones do."""
    content = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    place = content.rindex(upright)  # of the track
    path.write_bytes(content[:place] + turned + content[place + len(turned):])


def _tone(av, seconds: float):
    times = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    wave = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start:start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame
