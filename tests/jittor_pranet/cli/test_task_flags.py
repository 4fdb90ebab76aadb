"""Flags of one task are refused by the other, in every program that has both."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from jittor_pranet.__main__ import build_parser, main, parse
from jittor_pranet.cli.task_flags import TASK_FLAGS, check_task_flags
from jittor_pranet.training.options import Config, new_config, resumed_config
from utils.errors import UserError

FLAGS = [(program, task, flag) for program, tasks in TASK_FLAGS.items()
         for task, flags in tasks.items() for flag in flags]


def flags_of(program: str) -> set[str]:
    """The names of all flags of a program."""
    return {action.dest for action in build_parser([program])[1]._actions}


@pytest.mark.parametrize("program", TASK_FLAGS)
def test_the_table_names_flags_that_there_are(program):
    assert {flag for name, _, flag in FLAGS if name == program} <= flags_of(program)


@pytest.mark.parametrize(("program", "task", "flag"), FLAGS)
def test_a_flag_is_refused_by_the_other_task_alone(program, task, flag):
    values = {name: None for _, _, name in FLAGS} | {flag: 1}
    other = "binary" if task == "multiclass" else "multiclass"
    check_task_flags(program, task, values)
    with pytest.raises(UserError, match=f"^--{flag}: is not for --task {other}; leave it out"):
        check_task_flags(program, other, values)


@pytest.mark.parametrize(("flags", "message"), [
    (("--window", "0", "1"), "--window: is not for --task binary"),
    (("--slice_axis", "0"), "--slice_axis: is not for --task binary"),
    (("--label_map", "synapse"), "--label_map: is not for --task binary"),
    (("--task", "multiclass", "--num_class", "4", "--mask_rule", "mid"),
     "--mask_rule: is not for --task multiclass")])
def test_evaluate_refuses_what_it_would_not_look_at(tmp_path, capsys, flags, message):
    assert main(["evaluate", "--pred_root", str(tmp_path), "--gt_root", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_rot90_has_an_older_name_on_the_command_line_and_in_snapshots():
    for flag in ("--rot90", "--turns"):
        assert new_config(vars(parse(["train", "--train_path", "x", flag]))).rot90
    saved = asdict(Config(train_path="x", epoch=1, batchsize=1, rot90=True))
    saved["turns"] = saved.pop("rot90")
    assert resumed_config({}, saved, "state.npz").rot90
