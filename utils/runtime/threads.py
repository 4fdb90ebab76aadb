"""How OpenMP's threads wait for work."""

from __future__ import annotations

import os

# The work of a small map takes less time than to wake a thread. One that looks for more 2000 times before it
# sleeps takes a fifth off a training step at 96 pixels; on a machine with other work it costs a tenth, where
# one that looks on would cost a multiple.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}


def wait_policy() -> dict[str, str]:
    """The variables of the environment that tell OpenMP so, or `DEFAULTS` where it has none of them."""
    return {name: os.environ[name] for name in DEFAULTS if name in os.environ} or DEFAULTS
