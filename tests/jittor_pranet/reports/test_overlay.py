"""The outlines that are drawn over an image."""

from __future__ import annotations

import numpy as np

from jittor_pranet.reports.overlay import MAP_COLOUR, MASK_COLOUR, overlay

IMAGE = np.full((9, 12, 3), 100, np.uint8)


def square(top: int, left: int, level: int = 255) -> np.ndarray:
    values = np.zeros((9, 12), np.uint8)
    values[top:top + 4, left:left + 4] = level
    return values


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, np.uint8)).all(axis=2)


def test_outlines_both_sides_of_the_edge_and_leaves_the_rest():
    line = coloured(overlay(IMAGE, square(3, 4)), MAP_COLOUR)
    expected = np.zeros((9, 12), bool)
    expected[2:8, 4:8] = expected[3:7, 3:9] = True  # the square and its neighbours
    expected[4:6, 5:7] = False  # its inside
    np.testing.assert_array_equal(line, expected)
    assert (overlay(IMAGE, square(3, 4))[~line] == 100).all()
    assert (IMAGE == 100).all(), "the image itself is left alone"


def test_the_map_lies_over_the_mask():
    alone, picture = overlay(IMAGE, square(3, 4)), overlay(IMAGE, square(3, 4), square(3, 6))
    np.testing.assert_array_equal(coloured(picture, MAP_COLOUR), coloured(alone, MAP_COLOUR))
    assert coloured(picture, MASK_COLOUR)[4, 10]


def test_128_is_polyp_and_127_is_not():
    assert coloured(overlay(IMAGE, square(3, 4, 128)), MAP_COLOUR).any()
    np.testing.assert_array_equal(overlay(IMAGE, square(3, 4, 127)), IMAGE)


def test_a_full_or_cut_map_has_no_line_along_the_border():
    np.testing.assert_array_equal(overlay(IMAGE, np.full((9, 12), 255, np.uint8)), IMAGE)
    assert not coloured(overlay(IMAGE, square(0, 4)), MAP_COLOUR)[0, 5:7].any()
