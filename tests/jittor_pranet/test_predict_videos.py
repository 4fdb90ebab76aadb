"""Videos through predict: the copy's frames, times and sound, and clips that are no clips."""

from __future__ import annotations

import csv
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from jittor_pranet.reports.overlay import MAP_COLOUR, overlay
from tests.helpers.clips import RATE, rotate_clip, synthetic_frames, write_clip
from tests.helpers.damage import damage
from tests.helpers.green_network import green_network, rows, run
from tests.helpers.paths import files_of
from tests.jittor_pranet.test_predict_resumed import largest_file
from utils.data.video import redraw, suffix_of_copy
from utils.errors import BadFile

av = pytest.importorskip("av")
__all__ = ["green_network"]  # a fixture that every test uses


def decoded(path: Path) -> tuple[list[float], np.ndarray]:
    """Times and frames of a video."""
    with av.open(str(path)) as clip:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in clip.decode(video=0)]
    return [time for time, _ in frames], np.stack([frame for _, frame in frames])


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as clip:
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in clip.demux(audio=0)
                if packet.size]


def green_spot(frames: np.ndarray) -> np.ndarray:
    """The frames, dark, with a green square that moves a pixel to the right with each."""
    frames = frames // 4
    for number, frame in enumerate(frames):
        frame[16:48, 8 + number:40 + number, 1] = 250
    return frames


@pytest.mark.parametrize(("name", "codec", "sound", "made"), [
    ("clip.mp4", "libx264", "aac", "clip.mp4"),
    ("clip.avi", "mpeg4", "pcm_s16le", "clip.mkv"),
    ("clip.mkv", "libx264", None, "clip.mp4"),
])
def test_an_overlay_video_keeps_frames_times_and_sound(tmp_path, name, codec, sound, made):
    frames = green_spot(synthetic_frames(12, 96, 128))
    write_clip(tmp_path / name, frames, codec, sound)
    assert run(tmp_path, tmp_path / name, "--batch", 5) == 0
    result = tmp_path / "out" / "videos" / made
    times, shown = decoded(tmp_path / name)
    new_times, pictures = decoded(result)
    assert new_times == pytest.approx(times) and times == pytest.approx(np.arange(12) / RATE)
    assert not sound or sound_of(result) == sound_of(tmp_path / name) != []
    for number, (picture, frame) in enumerate(zip(pictures, shown)):
        square = np.zeros((96, 128), np.uint8)
        square[16:48, 8 + number:40 + number] = 255
        line = (overlay(frame, square) == MAP_COLOUR).all(axis=2)
        assert abs(picture.astype(int) - frame)[~binary_dilation(line, iterations=3)].mean() < 4, "by H.264"
        assert (picture[line] @ [-1.0, 0.5, 0.5]).mean() > 100, "the outline is cyan where it belongs"
    with open(tmp_path / "out" / "videos" / "clip.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["time_s"]) for row in table] == pytest.approx(times)
    for number, row in enumerate(table):
        box = np.array(row["boxes"].split(), int)
        assert abs(box - [8 + number, 16, 32, 32]).max() <= 4  # a map is 32 pixels wide
    row, = rows(tmp_path / "out")
    assert (row["output"], row["frames"], row["width"]) == (f"videos/{made}", "12", "128")


def test_a_second_run_leaves_a_whole_video_alone(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "clip.mp4", synthetic_frames(3, 64, 64))
    assert run(tmp_path) == 0
    before = files_of(tmp_path / "out")
    assert run(tmp_path) == 0
    assert "0 predicted, 1 done before" in capsys.readouterr().out
    assert files_of(tmp_path / "out") == before
    (tmp_path / "out" / "videos" / "clip.csv").unlink()
    assert run(tmp_path) == 0
    after = files_of(tmp_path / "out")
    before.pop("videos/clip.mp4"), after.pop("videos/clip.mp4")  # x264 does not always give the same bytes
    assert after == before


def test_a_signal_in_the_middle_leaves_no_video(tmp_path, monkeypatch):
    from jittor_pranet.prediction import videos

    write_clip(tmp_path / "clip.mp4", synthetic_frames(9, 64, 64))

    def interrupting(*arguments, region_cells=videos.region_cells):
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(videos, "region_cells", region_cells)
        return region_cells(*arguments)

    monkeypatch.setattr(videos, "region_cells", interrupting)
    assert run(tmp_path, tmp_path / "clip.mp4", "--batch", 2) == 143
    assert not list((tmp_path / "out" / "videos").iterdir()) and not rows(tmp_path / "out")
    assert run(tmp_path, tmp_path / "clip.mp4") == 0
    assert [row["frames"] for row in rows(tmp_path / "out")] == ["9"]


def test_odd_sides_are_extended(tmp_path):
    write_clip(tmp_path / "odd.avi", synthetic_frames(3, 63, 65), codec="ffv1", sound=None)
    with open(tmp_path / "odd.mp4", "wb") as file:
        redraw(tmp_path / "odd.avi", file, ".mp4", lambda given: (picture for _, picture in given))
    (_, odd), (_, extended) = decoded(tmp_path / "odd.avi"), decoded(tmp_path / "odd.mp4")
    assert (odd.shape, extended.shape) == ((3, 63, 65, 3), (3, 64, 66, 3))
    assert abs(extended[:, :63, :65].astype(int) - odd).mean() < 4, "by H.264"
    assert abs(extended[:, 63].astype(int) - extended[:, 62]).mean() < 8


def test_bad_videos_are_named_and_leave_nothing(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "whole.mp4", synthetic_frames(3, 64, 64))
    whole = (folder / "whole.mp4").read_bytes()
    bad = {"empty.mp4": b"", "text.avi": b"polyp", "cut.mp4": whole[:len(whole) // 2],
           "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:whole.mp4\n#EXT-X-ENDLIST\n",
           "script.mkv": f"ffconcat version 1.0\nfile {folder}/whole.mp4\n".encode()}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.mov")
    (folder / "gone.webm").symlink_to("nowhere.webm")
    assert run(tmp_path) == 1
    error = capsys.readouterr().err
    for name in [*bad, "pipe.mov", "gone.webm"]:
        assert error.count(f"left out: {folder}/{name}: ") == 1, (name, error)
    assert "Traceback" not in error
    assert sorted(path.name for path in (tmp_path / "out" / "videos").iterdir()) == ["whole.csv", "whole.mp4"]


@pytest.mark.parametrize(("name", "codec", "sound"), [
    ("clip.mp4", "libx264", "aac"), ("clip.avi", "mpeg4", "pcm_s16le"), ("clip.mkv", "libx264", "aac")])
def test_damaged_videos_are_predicted_or_named(tmp_path, capsys, name, codec, sound):
    write_clip(tmp_path / name, synthetic_frames(4, 64, 64), codec, sound)
    whole, codes = (tmp_path / name).read_bytes(), []
    for seed in range(40):
        (tmp_path / name).write_bytes(damage(whole, np.random.default_rng(seed)))
        codes.append(run(tmp_path, tmp_path / name, "--overwrite"))
        assert len(rows(tmp_path / "out")) == 1 - codes[-1]
    assert set(codes) == {0, 1}


def test_a_telephones_video_is_predicted_upright(tmp_path):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(4, 64, 96), sound=None)
    rotate_clip(tmp_path / "clip.mp4")
    assert run(tmp_path, tmp_path / "clip.mp4", "--threshold", "0.99") == 0
    (_, stored), (_, made) = decoded(tmp_path / "clip.mp4"), decoded(tmp_path / "out" / "videos" / "clip.mp4")
    assert stored.shape == (4, 64, 96, 3) and made.shape == (4, 96, 64, 3)
    assert abs(np.rot90(stored, -1, (1, 2)).astype(int) - made).mean() < 5, "clockwise, as a player turns it"


def test_without_pyav_a_video_is_a_defect_that_says_what_to_install(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(3, 64, 64))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadFile, match=r"videos need PyAV; install it: .* -r requirements-video\.txt"):
        suffix_of_copy(tmp_path / "clip.mp4")


def test_a_full_disk_leaves_no_video(tmp_path, capsys):
    write_clip(tmp_path / "clip.mp4", synthetic_frames(9, 64, 64))
    with largest_file(3000):
        assert run(tmp_path, tmp_path / "clip.mp4") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path}/out/videos/clip.mp4: cannot be written (File too large)")
    assert not list((tmp_path / "out" / "videos").iterdir()) and not rows(tmp_path / "out")
