"""What the pages say that the code can tell: tables of networks, links, programs and flags in commands."""

from __future__ import annotations

import re
import shlex

import pytest

from jittor_pranet.__main__ import PROGRAMS, build_parser
from jittor_pranet.benchmarks.network_tasks import GMAC
from lib import NETWORKS
from tests.helpers.paths import ROOT
from utils.metrics.tables import PAPER

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def commands(text: str) -> list[list[str]]:
    """The words of every command of ours, in blocks of code, in what is indented, and between backticks."""
    code = re.compile(r"```sh\n(.*?)```|(^ {4}[^\n]*\n)", re.DOTALL | re.MULTILINE)
    blocks = "\n".join(block for found in code.findall(text) for block in found)
    lines = blocks.replace("\\\n", " ").splitlines() + re.findall(r"`(\./[^`\n]*)`", text)
    return [shlex.split(line[line.index("./"):], comments=True) for line in lines
            if re.search(r"(^|\s)\./(pranet|run_)", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_name_programs_and_flags_that_there_are(page):
    for script, *words in commands(page.read_text()):
        if "--demo" in words or script == "./run_train.sh":
            program, words = "train", [word for word in words if word not in ("--demo", "--classes")]
        elif script == "./run_test.sh":
            program = "test"
        elif not words or not words[0].islower():
            continue  # of ./pranet itself
        else:
            program, *words = words
        assert program in PROGRAMS, f"{script} {program}"
        known = build_parser([program])[1]._option_string_actions
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert flag in known, f"{program} {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_table_of_networks():
    from lib import build_model
    from lib.optimizer import trainable_parameters

    lines = (ROOT / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    rows = [row for row in rows if row[0] in NETWORKS]
    assert [row[0] for row in rows] == list(NETWORKS)
    for name, _, millions, gmac, scores, _ in rows:
        count = sum(variable.numel() for variable in trainable_parameters(build_model(name)))
        assert millions == f"{count / 1e6:.1f}" and gmac == f"{GMAC[name] + 1e-9:.1f}", name
        if scores:
            sets = PAPER["Kvasir"], PAPER["ETIS-LaribPolypDB"]
            assert scores == ", ".join(f"{networks[name][0]:.2f}" for networks in sets)
