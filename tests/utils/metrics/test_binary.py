from __future__ import annotations

import json
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays
from PIL import Image

from jittor_pranet.reference_metrics import binary
from tests.helpers.compare import assert_close
from tests.helpers.paths import GOLDEN
from utils.metrics.binary import (
    CURVES,
    FIRST_LEVEL,
    METRICS,
    THRESHOLDS,
    UNDEFINED,
    BinaryMetrics,
    binary_mask,
    measure_pair,
)

CASES = json.loads((GOLDEN / "metrics.json").read_text())

# What is taken where the published evaluation gives NaN, by the measure that is undefined.
DEFINED = {"wFm": 0.0, "meanSpe": 1.0, "maxSpe": 1.0}


def golden_pair(case: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(GOLDEN / "metrics.npz") as pairs:
        return pairs[f"case{case}_pred"], pairs[f"case{case}_mask"]


def assert_same(actual: dict[str, float], expected: dict[str, float]) -> None:
    """Compares all scores but those that are NaN in the expected ones."""
    assert set(actual) == set(expected) == set(METRICS)
    for name, score in expected.items():
        if not np.isnan(score):
            assert_close(actual[name], score, "metrics", name)


# ---------------------------------------------------------------- published scores


@pytest.mark.parametrize("case", range(len(CASES)), ids=[case["kind"] for case in CASES])
def test_published_scores(case):
    metrics = BinaryMetrics(mask_rule="published")
    metrics.update(*golden_pair(case))
    scores, expected = metrics.result(), CASES[case]["metrics"]
    assert_same(scores, expected)
    for name in (name for name, score in expected.items() if np.isnan(score)):
        assert scores[name] == DEFINED[name]


def test_undefined_scores_are_counted():
    metrics = BinaryMetrics(mask_rule="published")
    for case in range(len(CASES)):
        metrics.update(*golden_pair(case))
    assert metrics.images == len(CASES)
    assert metrics.undefined == {"wFm": 1, "Sm": 0, "Spe": 1}
    assert np.isfinite(list(metrics.result().values())).all()


@pytest.mark.parametrize("case", range(len(CASES)), ids=[case["kind"] for case in CASES])
def test_reference_gives_the_published_scores(case):
    levels, mask = golden_pair(case)
    scores, expected = binary.measure(levels, mask > 0), CASES[case]["metrics"]
    assert_same(scores, expected)
    assert {name for name in METRICS if np.isnan(scores[name])} == \
        {name for name in METRICS if np.isnan(expected[name])}


def test_means_over_images_come_before_those_over_thresholds():
    pairs = [golden_pair(case) for case in (0, 9)]
    metrics, dice = BinaryMetrics("published"), []
    for levels, mask in pairs:
        dice.append(metrics.update(levels, mask).curves[CURVES.index("Dic")])
    assert_close(metrics.curves()["Dic"], np.mean(dice, axis=0), "metrics")
    assert metrics.result()["maxDic"] == np.mean(dice, axis=0).max() < np.max(dice, axis=1).mean()


def test_thresholds_miss_the_equal_level_in_66_places():
    levels = np.arange(256, dtype=np.uint8)
    marked = np.array([(levels / 255 >= threshold).sum() for threshold in THRESHOLDS])
    np.testing.assert_array_equal(256 - FIRST_LEVEL, marked)
    assert np.count_nonzero(marked != np.arange(1, 257)) == 66


# ---------------------------------------------------------------- the reference on synthetic maps

# Levels and masks that reach the corners: maps of one level or black but for a patch; masks empty, full,
# of one pixel, in the first row, in several parts.
SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))
PALETTES = st.sampled_from([(0, 255), (0, 1, 128, 254, 255), (7,), (128,), (255,), tuple(range(256))])


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    levels = draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(draw(PALETTES)), fill=st.just(0)))
    mask = draw(st.one_of(
        arrays.arrays(bool, shape, fill=st.just(False)),
        arrays.arrays(bool, shape, fill=st.just(True)),
        st.just(np.zeros(shape, bool))))
    if draw(st.booleans()):  # a map that is about right, as a network's is
        levels = np.where(mask, np.maximum(levels, draw(st.integers(0, 255))), levels // 2).astype(np.uint8)
    return levels, mask


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(pairs())
def test_reference_on_synthetic_maps(pair):
    compare_with_reference(*pair)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(SHAPES, st.integers(0, 255), st.integers(0, 255), st.data())
def test_reference_on_quarters_of_one_level(shape, level, other, data):
    """Whether such a quarter counts as alike hangs on the rounding of its mean in the published code."""
    levels = np.full(shape, level, np.uint8)
    levels[:data.draw(st.integers(0, shape[0])), :data.draw(st.integers(0, shape[1]))] = other
    mask = np.zeros(shape, bool)
    mask[data.draw(st.integers(0, shape[0] - 1)):, data.draw(st.integers(0, shape[1] - 1)):] = True
    compare_with_reference(levels, mask)


@pytest.mark.parametrize("seed", range(3))
def test_reference_on_blobs_of_a_real_size(seed):
    """Soft blobs with errors far from the mask: crops, distances and neighbours' errors all matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:157, :211]
    mask, soft = np.zeros(y.shape, bool), np.zeros(y.shape)
    for _ in range(3):
        row, column, radius = rng.uniform(0, 157), rng.uniform(0, 211), rng.uniform(5, 30)
        mask |= np.hypot(y - row, x - column) < radius
        row, column = row + rng.normal(0, 8), column + rng.normal(0, 8)
        soft = np.maximum(soft, 1 / (1 + np.exp((np.hypot(y - row, x - column) - radius) / 3)))
    compare_with_reference((255 * soft).astype(np.uint8), mask)


def compare_with_reference(levels: np.ndarray, mask: np.ndarray) -> None:
    with np.errstate(invalid="ignore"):
        expected = binary.measure(levels, mask)
    scores = measure_pair(levels, mask)
    assert_same(scores.result(), expected)
    undefined = {name for name in UNDEFINED if np.isnan(expected.get(name, expected.get(f"mean{name}")))}
    assert set(scores.undefined) == undefined
    assert np.isfinite(list(scores.result().values())).all()


# ---------------------------------------------------------------- masks and misuse


def test_mask_rules():
    grey = np.array([[0, 1, 7, 127, 128, 255]], np.uint8)
    assert binary_mask(grey, "mid").tolist() == [[False, False, False, False, True, True]]
    assert binary_mask(grey, "published").tolist() == [[False, True, True, True, True, True]]
    with pytest.raises(ValueError, match="'middle' is unknown; known are mid, published"):
        BinaryMetrics(mask_rule="middle")


def test_a_bool_mask_is_taken_as_it_is():
    levels, mask = golden_pair(0)
    metrics = [BinaryMetrics("published"), BinaryMetrics("mid")]
    metrics[0].update(levels, mask)
    metrics[1].update(levels, mask > 0)
    assert metrics[0].result() == metrics[1].result()


@pytest.mark.parametrize("levels, mask, complaint", [
    (np.zeros((4, 5)), np.zeros((4, 5), bool), "map has dtype float64, expected uint8"),
    (np.zeros((4, 5), np.uint8), np.zeros((4, 5), int), "mask has dtype int64, expected bool or uint8"),
    (np.zeros((4, 5), np.uint8), np.eye(4, 5, dtype=np.uint8), "mask holds the levels 0 and 1 only"),
    (np.zeros((4, 5), np.uint8), np.zeros((5, 4), bool), r"map has shape \(4, 5\) and mask \(5, 4\)"),
    (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 3), bool), r"expected the same \(H, W\)"),
    (np.zeros((0, 5), np.uint8), np.zeros((0, 5), bool), "at least one pixel"),
])
def test_wrong_arrays_are_refused(levels, mask, complaint):
    with pytest.raises(ValueError, match=complaint):
        BinaryMetrics().update(levels, mask)


def test_images_of_pillow_are_taken():
    levels, mask = golden_pair(0)
    direct, by_image = BinaryMetrics(), BinaryMetrics()
    direct.update(levels, mask)
    by_image.update(Image.fromarray(levels), Image.fromarray(mask))
    assert by_image.result() == direct.result()


def test_no_image_no_scores():
    with pytest.raises(ValueError, match="no image was measured"):
        BinaryMetrics().result()


def test_input_is_left_alone_and_may_be_read_only():
    levels, mask = golden_pair(0)
    kept = levels.copy(), mask.copy()
    levels.flags.writeable = mask.flags.writeable = False
    first = BinaryMetrics("published").update(levels, mask)
    again = BinaryMetrics("published").update(np.asfortranarray(levels), np.asfortranarray(mask))
    assert first.result() == again.result()
    np.testing.assert_array_equal(levels, kept[0])
    np.testing.assert_array_equal(mask, kept[1])


def test_metrics_need_numpy_and_scipy_only():
    code = "import sys, utils.metrics.binary; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=GOLDEN.parent.parent, check=True,
                            capture_output=True, text=True).stdout.split()
    assert {"numpy", "scipy"} <= set(loaded)
    assert not {"jittor", "torch", "PIL", "tqdm"} & set(loaded)
