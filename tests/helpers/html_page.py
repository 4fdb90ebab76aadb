"""Reads a report's page, and holds it to closing what it opens."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image


def decoded(image: dict) -> np.ndarray:
    """The pixels of an image that a page holds."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))))


class Page(HTMLParser):
    """The tables' cells, the images and their captions, and every address that a page refers to."""

    def __init__(self, path: Path):
        super().__init__()
        self.rows, self.images, self.captions, self.addresses, self.open = [], [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == [], "elements left open"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [value for name, value in attributes.items() if name in ("src", "href", "srcset")]
        if tag == "img":
            self.images.append(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag not in ("img", "meta", "br", "path", "rect", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)
        if self.open and self.open[-1] == "figcaption":
            self.captions.append(data)
