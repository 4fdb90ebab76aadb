"""CVC-ClinicDB's frames by the video sequences that they are from.

The set is 612 frames, numbered from 1, of 29 sequences: J. Bernal et al., "WM-DOVA maps for accurate polyp
highlighting in colonoscopy", Computerized Medical Imaging and Graphics 43, 2015. The ranges are as
github.com/dataset-ninja/cvc-612 (src/convert.py) has them; two other public projects have the same.
The benchmark names the images of this set by their frames.
"""

from __future__ import annotations

import re

SEQUENCES = (  # the first and the last frame of each
    (1, 25), (26, 50), (51, 67), (68, 78), (79, 103), (104, 126), (127, 151), (152, 177),
    (178, 199), (200, 205), (206, 227), (228, 252), (253, 277), (278, 297), (298, 317), (318, 342),
    (343, 363), (364, 383), (384, 408), (409, 428), (429, 447), (448, 466), (467, 478), (479, 503),
    (504, 528), (529, 546), (547, 571), (572, 591), (592, 612))


def sequence_of(stem: str) -> int | None:
    """The sequence, 1 to 29, of the frame that an image is named by; None for any other name."""
    if not re.fullmatch("[0-9]{1,9}", stem):
        return None
    numbered = enumerate(SEQUENCES, 1)
    return next((number for number, (first, last) in numbered if first <= int(stem) <= last), None)
