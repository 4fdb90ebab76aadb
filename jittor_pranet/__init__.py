"""The programs: ``python -m jittor_pranet train|test|evaluate|demo|doctor``."""

import sys
from pathlib import Path

# Programs are also started in folders with packages of their own called utils or lib, which would come first.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
