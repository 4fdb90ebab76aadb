"""Clips drawn for the tests: a window that moves over a drawn polyp, with a tone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from utils.data.synthetic.polyps import draw_polyp

RATE, SOUND_RATE = 10, 8000


def draw_frames(count: int, height: int, width: int) -> np.ndarray:
    """uint8 (count, height, width, 3)."""
    picture, _ = draw_polyp(np.random.default_rng(0), max(height, width) + count)
    return np.stack([picture[number:number + height, number:number + width] for number in range(count)])


def write_clip(path: Path, frames: np.ndarray, codec: str = "libx264", sound: str | None = "aac",
               rotation: int = 0) -> None:
    """A video of RATE frames in a second; ``sound`` is the codec of the tone."""
    import av

    with av.open(str(path), "w") as clip:
        stream = clip.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        tone = clip.add_stream(sound, rate=SOUND_RATE, layout="mono") if sound else None
        for frame in frames:
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        clip.mux(stream.encode())
        if tone is not None:
            for frame in _tone(av, len(frames) / RATE):
                clip.mux(tone.encode(frame))
            clip.mux(tone.encode())


def _tone(av, seconds: float):
    times = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    wave = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start:start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, start, Fraction(1, SOUND_RATE)
        yield frame
