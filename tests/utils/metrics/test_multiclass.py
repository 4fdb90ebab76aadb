"""Scores of label maps: published ones, a plain reference, the rules for absent classes, the means."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.extra import numpy as arrays

from jittor_pranet.__main__ import main
from jittor_pranet.reference_metrics import multiclass
from tests.helpers.compare import TOLERANCES, assert_close
from tests.helpers.paths import ROOT
from utils.errors import UserError
from utils.metrics.multiclass import (
    ABSENT_RULES,
    METRICS,
    STATES,
    MulticlassMetrics,
    count_labels,
    measure_scan,
)

GOLDEN = ROOT / "tests" / "golden"
CASES = json.loads((GOLDEN / "volumes.json").read_text())
NAN = np.nan


def synthetic(shape: tuple[int, ...], seed: int, classes: int = 3) -> np.ndarray:
    """uint8 label map: blocks of every class, some cut by the border."""
    rng, labels = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    for label in [*range(1, classes + 1)] * 2:
        starts = [rng.integers(-2, side) for side in shape]
        labels[tuple(slice(max(start, 0), start + rng.integers(3, 8)) for start in starts)] = label
    return labels


def table(prediction: np.ndarray, target: np.ndarray, num_class: int = 4, spacing=None,
          absent: str = "sound"):
    return measure_scan(prediction, target, num_class, spacing).table(absent)


def assert_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compares scores of which the undefined ones have to be undefined in both."""
    expected = np.asarray(expected, np.float64)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert_close(np.nan_to_num(actual), np.nan_to_num(expected), "label metrics")


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_published_scores(case):
    with np.load(GOLDEN / "volumes.npz") as volumes:
        prediction, target = (volumes[f"{case['case']}_{which}"] for which in ("pred", "label"))
    reached = table(prediction, target, absent="published")
    expected = np.array(case["dice_hd95_jaccard_assd"])[:, [0, 2, 1, 3]]
    assert_close(reached[:, :4], expected, "label metrics")
    assert np.isnan(reached[:, 4:]).all()  # no spacing is known


@pytest.mark.parametrize("shape", [(6, 17, 19), (1, 23, 21), (2, 9, 30)])
@pytest.mark.parametrize("spacing", [(5.0, 0.7, 1.3), (1, 1, 1)])
def test_scores_equal_the_reference(shape, spacing):
    compared = 0
    for seed in range(6):
        prediction, target = synthetic(shape, seed), synthetic(shape, seed + 100)
        reached = table(prediction, target, spacing=spacing)
        flat = slice(0 if shape[0] > 1 else 1, None)  # a single slice is a picture
        for label in range(1, 4):
            objects = [np.squeeze(labels == label, 0) if shape[0] == 1 else labels == label
                       for labels in (prediction, target)]
            if not all(each.any() for each in objects):
                continue
            expected = multiclass.measure(*objects)
            in_mm = multiclass.measure(*objects, spacing[flat])
            assert_close(reached[label - 1], [*expected, *in_mm[2:]], "label metrics")
            compared += 1
    assert compared > 6


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_any_two_objects(data):
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6))
    labels = arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))
    prediction, target = data.draw(labels), data.draw(labels)
    hypothesis.assume(prediction.any() and target.any())
    expected = multiclass.measure(prediction == 1, target == 1)
    assert_close(table(prediction, target, 2)[0, :4], expected, "label metrics")


@pytest.mark.parametrize("shape", [(7, 15, 16), (20, 22)])
def test_scores_equal_medpy(shape):
    medpy = pytest.importorskip("medpy.metric.binary")
    spacing = (2.5, 0.8, 1.1)
    for seed in range(4):
        prediction, target = synthetic(shape, seed, 1), synthetic(shape, seed + 50, 1)
        expected = [medpy.dc(prediction, target), medpy.jc(prediction, target)]
        for sampling in (None, spacing[-len(shape):]):
            # Since 0.5 medpy.assd takes all distances together, as its hd95 does.
            directed = medpy.asd(prediction, target, sampling), medpy.asd(target, prediction, sampling)
            expected += [medpy.hd95(prediction, target, sampling), np.mean(directed)]
        volumes = (labels.reshape(-1, *shape[-2:]) for labels in (prediction, target))
        assert_close(table(*volumes, 2, spacing)[0], expected, "label metrics")


def test_scores_by_hand():
    target, prediction = np.zeros((2, 1, 1, 9), np.uint8)
    target[..., 1:4], prediction[..., 2:6] = 1, 1
    # Of 4 and 3 pixels 2 are shared; none has four neighbours, so all are surface. The distances are 0, 0, 1,
    # 2 to the target, and 1, 0, 0 from it.
    hd95 = np.percentile([0, 0, 1, 2, 1, 0, 0], 95)
    assert_same(table(prediction, target, 2, (9, 9, 2))[0],
                [4 / 7, 2 / 5, hd95, (3 / 4 + 1 / 3) / 2, 2 * hd95, 3 / 4 + 1 / 3])


def test_an_object_filling_the_volume_has_its_surface_at_the_border():
    full, part = np.ones((3, 5, 5), np.uint8), np.zeros((3, 5, 5), np.uint8)
    part[1, 2, 2] = 1
    assert_close(table(part, full, 2)[0, :4], multiclass.measure(part == 1, full == 1), "label metrics")
    assert_same(table(full, full, 2, (1, 1, 1))[0], [1, 1, 0, 0, 0, 0])


# ---------------------------------------------------------------- absent classes


@pytest.fixture
def absent():
    """A scan in which class 1 is in both maps, 2 missed, 3 predicted only, and 4 in neither."""
    target, prediction = np.zeros((2, 2, 8, 8), np.uint8)
    target[0, 0, 0], prediction[0, 0, 0] = 1, 1
    target[0, 4, 4] = 2
    prediction[1, 6, 6] = 3
    return prediction, target


def test_rules_for_absent_classes(absent):
    for spacing, mm in ((None, NAN), ((1, 1, 1), 0)):
        assert_same(table(*absent, 5, spacing), [
            [1, 1, 0, 0, mm, mm], [0, 0, *[NAN] * 4], [0, 0, *[NAN] * 4], [NAN] * 6])
        assert_same(table(*absent, 5, spacing, "published"), [
            [1, 1, 0, 0, mm, mm], [0, 0, 0, 0, mm, mm], [1, 1, 0, 0, mm, mm], [0, 0, 0, 0, mm, mm]])


def test_absent_classes_are_counted(absent):
    metrics = MulticlassMetrics(5)
    metrics.add(measure_scan(*absent, 5))
    metrics.add(measure_scan(absent[1], absent[1], 5, (1, 1, 1)))
    assert STATES == ("both", "missed", "false", "absent")
    assert metrics.states.tolist() == [[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 2]]
    assert metrics.without_spacing == 1


@pytest.mark.parametrize(("rule", "expected"), [
    # By class: (1 + 1) / 2, (0 + 1) / 2, the false one alone 0, the fourth in no scan.
    ("sound", {"Dice": (1 + 1 / 2 + 0) / 3, "HD95": 0, "ASSD_mm": 0}),
    ("published", {"Dice": (1 + 1 / 2 + 1 / 2 + 0) / 4, "HD95": 0, "ASSD_mm": 0}),
])
def test_means_over_scans_then_classes(absent, rule, expected):
    metrics = MulticlassMetrics(5, rule)
    metrics.add(measure_scan(*absent, 5))
    metrics.add(measure_scan(absent[1], absent[1], 5, (1, 1, 1)))
    means = metrics.means()
    assert set(means) == set(METRICS)
    for name, score in expected.items():
        assert_close(means[name], score, "label metrics", name)


def test_nothing_defined_is_nan_without_a_warning():
    empty = np.zeros((1, 4, 4), np.uint8)
    metrics = MulticlassMetrics(3)
    metrics.add(measure_scan(empty, empty, 3))
    assert np.isnan(list(metrics.means().values())).all()


# ---------------------------------------------------------------- counts


def test_confusion_has_true_labels_in_rows():
    target, prediction = np.array([[[0, 1, 1, 2]]], np.uint8), np.array([[[0, 2, 1, 2]]], np.uint8)
    assert count_labels(prediction, target, 3).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    metrics = MulticlassMetrics(3)
    for _ in range(2):
        metrics.add(measure_scan(prediction, target, 3))
    assert metrics.confusion.tolist() == [[2, 0, 0], [0, 2, 2], [0, 0, 2]]


@pytest.mark.parametrize("num_class", [64, 256])  # the product of two labels is beyond uint8
def test_many_labels(num_class):
    target = np.arange(num_class, dtype=np.uint8).reshape(1, 8, -1)
    prediction = np.uint8(num_class - 1) - target
    assert (count_labels(prediction, target, num_class) == np.eye(num_class)[::-1]).all()


def test_counts_alone_give_the_overlaps():
    from utils.metrics.multiclass import ScanScores

    prediction, target = synthetic((4, 12, 12), 1), synthetic((4, 12, 12), 2)
    quick, full = MulticlassMetrics(4), MulticlassMetrics(4)
    quick.add(ScanScores(count_labels(prediction, target, 4)))
    full.add(measure_scan(prediction, target, 4))
    assert quick.means()["Dice"] == full.means()["Dice"] > 0
    assert np.isnan(quick.means()["HD95"])


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("prediction", "target", "complaint"), [
    (np.zeros((1, 4, 4)), np.zeros((1, 4, 5)), r"shape \(1, 4, 4\), the true one \(1, 4, 5\)"),
    (np.full((1, 4, 4), 3), np.zeros((1, 4, 4)), r"predicted label map holds 3, expected labels of 0..2"),
    (np.zeros((1, 4, 4)), np.full((1, 4, 4), 7), r"true label map holds 7, expected labels of 0..2"),
])
def test_mistakes(prediction, target, complaint):
    with pytest.raises(UserError, match=complaint):
        measure_scan(prediction.astype(np.uint8), target.astype(np.uint8), 3)


def test_every_rule_has_every_state():
    assert all(list(rule) == list(STATES[1:]) for rule in ABSENT_RULES.values())


# ---------------------------------------------------------------- benchmark


@pytest.mark.parametrize("opponent", ["medpy", "plain formulas"])
def test_benchmark_compares_equal_scores(opponent, capsys, monkeypatch):
    if opponent == "medpy":
        pytest.importorskip("medpy")
    else:
        monkeypatch.setitem(sys.modules, "medpy.metric", None)
    assert main(["benchmark", "--what", "labels", "--shape", "16", "48", "64", "--rounds", "1",
                 "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert float(re.search("differ by (.*) at most", printed)[1]) <= TOLERANCES["label metrics"].absolute
    assert re.search(f"{opponent} .* times as long", printed) and "1 worker(s)" in printed


def test_beside_jittor_surfaces_at_the_border_are_measured():
    """Its code makes subnormal numbers zero in the whole process; in one of its own, which would crash."""
    code = """if True:
        from tests.utils.metrics.test_multiclass import synthetic
        from utils.runtime.backend import jt
        from utils.metrics.multiclass import measure_scan
        jt.exp(jt.rand(5)).numpy()
        assert 5e-324 * float(jt.ones(1).numpy()[0]) == 0.0, "subnormal numbers are kept"
        for seed in range(6):
            maps = synthetic((6, 17, 19), seed), synthetic((6, 17, 19), seed + 100)
            assert measure_scan(*maps, 4).voxels.size
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
