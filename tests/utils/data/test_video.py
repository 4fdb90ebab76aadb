"""Copies of videos: of the source's size, pictures and times, whatever the encoder's defaults are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.clips import RATE, rotate_clip, synthetic_frames, write_clip
from utils.data.video import redraw, suffix_of_copy

av = pytest.importorskip("av")
REGULAR, VARIABLE = [100 * number for number in range(5)], [0, 40, 140, 173, 900]


def decoded(path: Path) -> tuple[list[float], np.ndarray]:
    """Times and frames of a video as a player shows them."""
    with av.open(str(path)) as clip:
        frames = [(frame.time, np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                  for frame in clip.decode(video=0)]
    return [time for time, _ in frames], np.stack([frame for _, frame in frames])


def assert_copied(path: Path) -> tuple[int, int]:
    """Copies a video and compares it with the copy. Returns the copy's height and width."""
    copy = path.with_name("copy" + suffix_of_copy(path))
    with open(copy, "wb") as file:
        redraw(path, file, copy.suffix, lambda frames: (picture for _, picture in frames))
    (times, frames), (new_times, pictures) = decoded(path), decoded(copy)
    height, width = frames.shape[1:3]
    assert new_times == pytest.approx(times, abs=1e-3)
    assert pictures.shape == (len(frames), height + height % 2, width + width % 2, 3)
    difference = abs(pictures[:, :height, :width].astype(int) - frames)
    assert difference.mean() < 4, "by H.264"
    assert np.quantile(difference, 0.999) < 48, "nothing is moved or squeezed"
    return pictures.shape[1:3]


@pytest.mark.parametrize("times_ms", [None, VARIABLE], ids=["regular", "variable"])
@pytest.mark.parametrize("size", [(360, 640), (512, 640), (480, 640), (640, 480), (480, 642), (96, 128)])
def test_a_copy_has_the_size_frames_and_times_of_its_source(tmp_path, size, times_ms):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(5, *size), sound=None, times_ms=times_ms)
    assert decoded(tmp_path / "clip.mp4")[0] == pytest.approx([each / 1000 for each in times_ms or REGULAR],
                                                             abs=1e-3)
    assert assert_copied(tmp_path / "clip.mp4") == size


@pytest.mark.parametrize("size", [(359, 640), (480, 639), (479, 639), (359, 641), (63, 65)])
def test_a_copy_of_odd_sides_is_extended_by_a_row_or_column(tmp_path, size):
    write_clip(tmp_path / "clip.avi", synthetic_frames(5, *size), codec="ffv1", sound=None)
    assert_copied(tmp_path / "clip.avi")


@pytest.mark.parametrize("times_ms", [None, VARIABLE], ids=["regular", "variable"])
@pytest.mark.parametrize("size", [(640, 360), (640, 480), (480, 640)])
def test_a_copy_of_a_rotated_video_is_upright(tmp_path, size, times_ms):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(5, *size), sound=None, times_ms=times_ms)
    rotate_clip(tmp_path / "clip.mp4")
    assert assert_copied(tmp_path / "clip.mp4") == size[::-1]


def test_sound_goes_along_at_the_encoders_default_width(tmp_path):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(2 * RATE, 360, 640))
    assert assert_copied(tmp_path / "clip.mp4") == (360, 640)
