"""The rate as a function of the step, and the moving average, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jittor_pranet.training.options import Config
from jittor_pranet.training.trainer import learning_rate
from tests.helpers.compare import assert_close

CONFIG = Config(train_path="data", epoch=100, batchsize=8, lr=1e-3, decay_rate=0.1, decay_epoch=50)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1e-3), (49, 1e-3), (50, 1e-4), (99, 1e-4), (100, 1e-5)])
def test_the_rate_falls_every_decay_epoch(epoch, rate):
    assert learning_rate(CONFIG, epoch, step=10 ** 6) == pytest.approx(rate, rel=1e-12)


def test_the_rate_grows_evenly_over_the_warm_up_and_is_untouched_by_default():
    warm = replace(CONFIG, warmup_steps=4)
    rates = [learning_rate(warm, 0, step) for step in range(6)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3, 1e-3], rel=1e-12)
    assert {learning_rate(CONFIG, 0, step) for step in range(6)} == {1e-3}


def test_the_average_of_two_steps_by_hand():
    from lib.optimizer import MovingAverage
    from utils.runtime.backend import jt

    model = jt.nn.Linear(1, 1, bias=False)
    model.weight.update(jt.array(np.float32([[1.0]])))
    average = MovingAverage(model, decay=0.25)
    for value in (2.0, 5.0):
        model.weight.update(jt.array(np.float32([[value]])))
        average.step()
    # The decay is 2/11 at the first step and then its own 0.25, being below 3/12 no longer.
    first = 1.0 * 2 / 11 + 2.0 * 9 / 11
    assert_close(average.values["weight"].numpy(), [[first * 0.25 + 5.0 * 0.75]], "float32")
