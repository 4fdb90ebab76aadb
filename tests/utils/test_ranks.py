"""What processes know of each other from the environment."""

from __future__ import annotations

import pytest

from jittor_pranet.__main__ import main
from utils import ranks
from utils.errors import UserError


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Nothing has started us."""
    for variable in (ranks.SIZE_VARIABLE, *ranks.LAUNCHERS):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("variable", ranks.LAUNCHERS)
def test_several_processes_of_another_launcher_do_not_train(monkeypatch, tmp_path, capsys, variable):
    monkeypatch.setenv(variable, "4")
    assert main(["train", "--train_path", str(tmp_path), "--train_save", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "has started 4 processes" in error and "mpirun -np 4" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("variable", "count"), [
    ("SLURM_STEP_NUM_TASKS", "1"), ("WORLD_SIZE", "1"), ("PMI_SIZE", ""), ("PMI_SIZE", "many")])
def test_one_process_is_no_matter(monkeypatch, variable, count):
    monkeypatch.setenv(variable, count)
    ranks.check_launcher()


def test_open_mpi_below_slurm_is_open_mpi(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(UserError):
        ranks.check_launcher()
    monkeypatch.setenv(ranks.SIZE_VARIABLE, "4")
    ranks.check_launcher()
