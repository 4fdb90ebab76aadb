"""Where the tests find things."""

from __future__ import annotations

from utils.files import PROJECT_ROOT as ROOT

GOLDEN = ROOT / "tests" / "golden"  # published figures

__all__ = ["GOLDEN", "ROOT"]
