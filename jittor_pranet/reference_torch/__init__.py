"""The six networks and their losses in PyTorch: the port that this project is compared with.

Written from the papers and the published state dicts, whose names and order it has; shares no code with lib/.
"""

from jittor_pranet.reference_torch.losses import mutation_loss, v1_loss, v2_loss
from jittor_pranet.reference_torch.networks import build_torch_model

__all__ = ["build_torch_model", "mutation_loss", "v1_loss", "v2_loss"]
