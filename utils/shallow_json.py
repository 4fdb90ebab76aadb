"""JSON of files from others.

Python's parser calls itself for each bracket. Jittor allows that a million times, more than a stack holds:
a file of brackets would end the process.
"""

from __future__ import annotations

import json
import re

MAX_DEPTH = 20  # what we write has five at most


def loads(text: str, **options) -> object:
    """What `json.loads` gives.

    Raises:
        ValueError: the text is not JSON, or nested more than `MAX_DEPTH` deep.
    """
    depth, inside = 0, False
    for found in re.finditer(r'\\.|["\[\]{}]', text, re.DOTALL):
        mark = found.group()
        if mark == '"':
            inside = not inside
        elif not inside:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
            if depth > MAX_DEPTH:
                raise ValueError(f"has JSON that is nested more than {MAX_DEPTH} deep")
    return json.loads(text, **options)
