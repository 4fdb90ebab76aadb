"""Batches for training: an order that the seed decides, sets kept in memory, and reading ahead in threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.polyp_sets import error_of, write_set
from tests.utils.test_parallel import readers
from utils.data.polyps import MEAN, STD, TrainSet, batches_per_epoch, epoch_batches
from utils.errors import UserError
from utils.files import PROJECT_ROOT
from utils.parallel import prefetch
from utils.runtime.memory import available_memory


@pytest.fixture
def root(tmp_path) -> Path:
    return write_set(tmp_path / "TrainDataset", 7)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


# ---- batches for training

def levels(values: np.ndarray) -> list[int]:
    """The grey level of each image or mask of a batch of one-coloured ones."""
    first = values[:, 0, 0, 0]
    grey = first * STD[0] + MEAN[0] if values.shape[1] == 3 else first
    return np.rint(255 * grey).astype(int).tolist()


def test_images_masks_and_stems_stay_together(root):
    for images, masks, stems in epoch_batches(TrainSet(root, 16), 3, seed=0, epoch=1):
        assert images.shape == (len(stems), 3, 16, 16)
        assert masks.shape == (len(stems), 1, 16, 16)
        assert images.dtype == masks.dtype == np.float32
        numbers = [int(stem[1:]) for stem in stems]
        assert levels(images) == [20 + k for k in numbers]
        assert levels(masks) == [200 + k for k in numbers]


@pytest.mark.parametrize("batch_size", [1, 3, 6, 7, 8])
def test_an_epoch_has_every_pair_once_and_keeps_the_rest(root, batch_size):
    train_set = TrainSet(root, 8)
    batches = [stems for _, _, stems in epoch_batches(train_set, batch_size, 3, 1, workers=0)]
    assert len(batches) == batches_per_epoch(train_set, batch_size)
    assert all(len(stems) == batch_size for stems in batches[:-1])
    assert sorted(stem for stems in batches for stem in stems) == [f"p{k}" for k in range(7)]


def test_the_order_is_a_function_of_seed_and_epoch_alone(root):
    train_set = TrainSet(root, 8)

    def order(seed, epoch, workers=0):
        return [stem for _, _, stems in epoch_batches(train_set, 2, seed, epoch, workers) for stem in stems]

    assert order(0, 1) == order(0, 1, workers=1) == order(0, 1, workers=3)
    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@pytest.mark.parametrize("first_batch", range(5))
def test_an_epoch_can_begin_at_any_of_its_batches_without_reading_those_before(root, first_batch):
    train_set = TrainSet(root, 8)
    whole = [stems for _, _, stems in epoch_batches(train_set, 2, 0, 1, workers=0)]
    for stem in (stem for stems in whole[:first_batch] for stem in stems):
        (root / "masks" / f"{stem}.png").unlink()
    rest = [stems for _, _, stems in epoch_batches(train_set, 2, 0, 1, first_batch=first_batch)]
    assert len(whole) == 4 and rest == whole[first_batch:]


def test_a_subset_holds_the_pairs_it_is_given(root):
    train_set = TrainSet(root, 8)
    subset = train_set.subset([train_set.pairs[5], train_set.pairs[2]])
    assert len(subset) == 2 and len(train_set) == 7
    for found, index in zip((subset[0], subset[1]), (5, 2)):
        np.testing.assert_array_equal(found[0], train_set[index][0])


@pytest.mark.parametrize("workers", [1, 2, 30])
def test_batches_do_not_depend_on_the_number_of_workers(root, workers):
    train_set = TrainSet(root, 8)
    for found, expected in zip(epoch_batches(train_set, 3, 0, 1, workers),
                               epoch_batches(train_set, 3, 0, 1, workers=0)):
        assert found[2] == expected[2]
        for values, wanted in zip(found[:2], expected[:2]):
            np.testing.assert_array_equal(values, wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_during_an_epoch_is_named_and_no_process_stays(root, workers):
    train_set = TrainSet(root, 8)
    (root / "masks" / "p4.png").write_bytes(b"")
    assert f"{root}/masks/p4.png" in error_of(list, epoch_batches(train_set, 2, 0, 1, workers))
    assert not readers()


def test_leaving_an_epoch_early_ends_its_processes(root):
    for _ in epoch_batches(TrainSet(root, 8), 2, 0, 1, workers=2):
        assert len(readers()) == 2
        break
    assert not readers()


def test_an_interrupt_in_the_consumer_leaves_no_process(root):
    def train():
        for _ in epoch_batches(TrainSet(root, 8), 1, 0, 1, workers=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert not readers()


# ---- kept in memory

def test_a_set_in_memory_gives_the_same_and_reads_no_file_again(root):
    expected = list(epoch_batches(TrainSet(root, 8), 3, 0, 1, workers=0))
    kept = TrainSet(root, 8, in_memory=True)
    for path in [*root.glob("images/*"), *root.glob("masks/*")]:
        path.unlink()
    for found, wanted in zip(epoch_batches(kept, 3, 0, 1, workers=2), expected):
        assert found[2] == wanted[2]
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])
        assert not readers(), "nothing is left for them to read"
    last = kept.pairs[6]
    np.testing.assert_array_equal(kept.subset([last])[0][0], kept[6][0])


def test_a_set_larger_than_the_memory_is_refused_before_it_is_read(root, monkeypatch):
    monkeypatch.setattr("utils.data.polyps.available_memory", lambda: 7 * 4 * 100**2 - 1)
    with pytest.raises(UserError, match=r"7 pairs of 100x100 pixels take 0 MB, 0 MB .* take --cache none"):
        TrainSet(root, 100, in_memory=True)
    assert len(TrainSet(root, 99, in_memory=True)) == 7
    assert len(TrainSet(root, 100)) == 7


def test_what_all_ranks_of_a_machine_take_is_counted(root, monkeypatch):
    monkeypatch.setattr("utils.ranks.LOCAL_SIZE", 3)
    monkeypatch.setattr("utils.data.polyps.available_memory", lambda: 3 * 7 * 4 * 100**2 - 1)
    with pytest.raises(UserError, match="7 pairs of 100x100 pixels in 3 processes take 1 MB, 1 MB of memory"):
        TrainSet(root, 100, in_memory=True)
    assert len(TrainSet(root, 99, in_memory=True)) == len(TrainSet(root, 100)) == 7


def test_open_mpi_tells_how_many_ranks_share_the_machine():
    code = "from utils import ranks; print(ranks.LOCAL_SIZE)"
    for variables, size in (({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, "4"), ({}, "1")):
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, text=True, capture_output=True,
                              env={**os.environ, **variables})
        assert done.stdout.strip() == size


@pytest.mark.parametrize(("files", "expected"), [
    ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   4 kB\n"}, 4096),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "max\n",
      "sys/fs/cgroup/memory.current": "900\n", "sys/fs/cgroup/memory.stat": "inactive_file 5\n"}, 4096),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory.max": "1000\n",
      "sys/fs/cgroup/memory.current": "900\n", "sys/fs/cgroup/memory.stat": "inactive_file 5\n"}, 105),
    ({"proc/meminfo": "MemAvailable: 4 kB\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000\n",
      "sys/fs/cgroup/memory/memory.usage_in_bytes": "900\n",
      "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 5\n"}, 105),
    ({}, 2**63),
])
def test_memory_that_machine_and_container_leave(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == expected


# ---- reading ahead in threads

@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.integers(0, 4), st.integers(0, 8))
def test_reading_ahead_keeps_the_order(count, workers, ahead):
    def load(number):
        time.sleep(0.001 * (number % 3))  # later ones are done sooner
        return -number

    assert list(prefetch(load, range(count), workers, ahead)) == [-number for number in range(count)]


def test_reads_while_the_consumer_works_but_not_without_bound():
    loaded = []
    results = prefetch(loaded.append, range(100), workers=2, ahead=5)
    next(results)
    deadline = time.monotonic() + 10
    assert reading_threads(), "the tests for leftover threads know their name"
    while len(loaded) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)  # room for one too many
    assert sorted(loaded) == list(range(6)), "the one handed out and five ahead"
    results.close()
    assert len(loaded) == 6


def test_without_workers_each_is_read_as_it_is_asked_for_and_in_this_thread():
    loaded = []
    next(prefetch(lambda _: loaded.append(threading.current_thread()), range(9), workers=0, ahead=5))
    assert loaded == [threading.current_thread()]


def test_a_failure_comes_in_its_place_and_cancels_the_rest():
    begun = []

    def load(number):
        begun.append(number)
        if number == 2:
            raise UserError("number 2")
        return number

    results = prefetch(load, range(100), workers=1, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    assert error_of(next, results) == "number 2"
    assert len(begun) <= 7
    assert not reading_threads()
