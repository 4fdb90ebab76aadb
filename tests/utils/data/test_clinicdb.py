"""The table of CVC-ClinicDB's sequences."""

from __future__ import annotations

from collections import Counter

import pytest

from utils.data.clinicdb import SEQUENCES, sequence_of


def test_every_frame_is_of_one_sequence():
    assert [frame for first, last in SEQUENCES for frame in range(first, last + 1)] == list(range(1, 613))
    assert len(SEQUENCES) == 29
    counts = Counter(sequence_of(str(frame)) for frame in range(1, 613))
    assert sorted(counts) == list(range(1, 30)) and (min(counts.values()), max(counts.values())) == (6, 26)


@pytest.mark.parametrize(("stem", "sequence"), [
    ("1", 1), ("25", 1), ("26", 2), ("200", 10), ("205", 10), ("206", 11), ("612", 29), ("007", 1),
    ("0", None), ("613", None), ("9" * 5000, None), ("", None), ("1a", None), ("-1", None), ("\u0661", None),
    ("cju0qkwl35piu0993l0dewei2", None)])
def test_the_sequence_is_told_by_the_name(stem, sequence):
    assert sequence_of(stem) == sequence
