"""PraNet-V1 and V2 in Jittor: segmentation networks with reverse attention, trained, tested and evaluated."""

import sys
from pathlib import Path

__version__ = "0.9.0"

# The packages lib and utils beside this one are for our processes alone: pip installs neither, since others
# have packages of these names. Here ours come first, in folders that have such packages as well.
ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "utils" / "errors.py").exists():
    raise ImportError("jittor_pranet runs from its checkout: install it by `pip install -e FOLDER`")
sys.path.insert(0, str(ROOT))
