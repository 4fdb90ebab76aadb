"""timm's names of the encoders, and the published ones for them. There before Jittor is loaded.

timm's res2net50d has the names and shapes of Res2Net50-v1b. Its pvt_v2_b2 has the arrays of PVTv2-B2, by
stages; all but the first begin with a downsampling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_STAGE = re.compile(r"stages\.([0-3])\.(downsample|blocks|norm)\.")
_PARTS = {"downsample": "patch_embed", "blocks": "block", "norm": "norm"}


def published_weights(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An encoder's weights under their published names, whether they have timm's or these already.

    Where two names would become one, all stay as they are, for the loader to refuse.
    """
    renamed = {_published(name): array for name, array in weights.items()}
    return renamed if len(renamed) == len(weights) else dict(weights)


def _published(name: str) -> str:
    if name.startswith("patch_embed."):
        return name.replace("patch_embed.", "patch_embed1.", 1)
    found = _STAGE.match(name)
    if not found:
        return name
    stage, part = found.groups()
    inner = name[found.end():].replace("mlp.dwconv.", "mlp.dwconv.dwconv.")
    return f"{_PARTS[part]}{int(stage) + 1}.{inner}"
