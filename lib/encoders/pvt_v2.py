"""PVTv2-B2 (Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", CVMJ 2022).

Maps are (N,H,W,C) inside: tokens and maps are then the same array, and nothing is transposed between linear
layers and convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib import ops
from lib.layers import Conv2d, LayerNorm, Linear
from lib.published_names import PublishedModule, numbered
from utils.runtime import collectives
from utils.runtime.backend import jt

nn = jt.nn
DROP_PATH = 0.1  # of the last block; grows linearly from 0 in the first


@dataclass(frozen=True)
class StageConfig:
    width: int
    heads: int
    mlp_ratio: int
    depth: int
    reduction: int   # of the height and width of keys and values
    patch: int       # kernel of the patch embedding
    stride: int


STAGES = (StageConfig(64, 1, 8, 3, 8, 7, 4), StageConfig(128, 2, 8, 4, 4, 3, 2),
          StageConfig(320, 5, 4, 6, 2, 3, 2), StageConfig(512, 8, 4, 3, 1, 3, 2))


class DropPath(nn.Module):
    """Leaves a residual branch out for whole samples with probability ``rate``, while training.

    The draws are NumPy's global generator's, in the order of the calls, so that whoever sets it before a step
    decides them; processes that share a batch all draw for the whole of it. Jittor's own generator cannot be
    saved, and draws in the order of its graph.
    """

    def __init__(self, rate: float):
        self.rate = rate

    def execute(self, x):
        if self.rate == 0.0 or not self.is_training():
            return x
        shard = collectives.current_shard(x.shape[0])
        kept = np.random.random_sample((shard.total, 1, 1, 1))[shard.images] >= self.rate
        return x * jt.array((kept / (1.0 - self.rate)).astype(np.float32))


class PatchEmbedding(nn.Module):
    """(N,H,W,C) to (N,h,w,width): overlapping patches."""

    def __init__(self, inputs: int, stage: StageConfig):
        self.proj = Conv2d(inputs, stage.width, stage.patch, stride=stage.stride, padding=stage.patch // 2)
        self.norm = LayerNorm(stage.width, eps=1e-5)

    def execute(self, x):
        return self.norm(self.proj(x, channels_last=True))


class Attention(nn.Module):
    """Multi-head attention whose keys and values come from a reduced map."""

    def __init__(self, stage: StageConfig):
        self.heads, self.reduction = stage.heads, stage.reduction
        self.q = Linear(stage.width, stage.width)
        self.kv = Linear(stage.width, 2 * stage.width)
        self.proj = Linear(stage.width, stage.width)
        if stage.reduction > 1:
            self.sr = Conv2d(stage.width, stage.width, stage.reduction, stride=stage.reduction)
            self.norm = LayerNorm(stage.width, eps=1e-5)

    def execute(self, x):
        batch, height, width, channels = x.shape
        query = self.q(x).reshape(batch, height * width, channels)
        if self.reduction > 1:
            x = self.norm(self.sr(x, channels_last=True))
        key_value = self.kv(x).reshape(batch, -1, 2 * channels)
        mixed = ops.attention(query, key_value, self.heads)
        return self.proj(mixed).reshape(batch, height, width, channels)


class DepthwiseConv(nn.Module):
    def __init__(self, channels: int):
        self.dwconv = Conv2d(channels, channels, 3, padding=1, groups=channels)

    def execute(self, x):
        return self.dwconv(x, channels_last=True)


class Mlp(nn.Module):
    """Two linear layers with a depthwise 3x3 convolution and an exact (erf) GELU between them."""

    def __init__(self, width: int, hidden: int):
        self.fc1, self.fc2 = Linear(width, hidden), Linear(hidden, width)
        self.dwconv = DepthwiseConv(hidden)

    def execute(self, x):
        return self.fc2(ops.gelu(self.dwconv(self.fc1(x))))


class Block(nn.Module):
    def __init__(self, stage: StageConfig, drop_path: float):
        self.norm1, self.norm2 = LayerNorm(stage.width, eps=1e-6), LayerNorm(stage.width, eps=1e-6)
        self.attn = Attention(stage)
        self.mlp = Mlp(stage.width, stage.width * stage.mlp_ratio)
        self.drop_path = DropPath(drop_path)

    def execute(self, x):
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """(N,H,W,C) to (N,h,w,width): patches, then blocks with the given rates of DropPath."""

    def __init__(self, inputs: int, stage: StageConfig, drop_paths: list[float]):
        self.embedding = PatchEmbedding(inputs, stage)
        self.blocks = nn.Sequential(*(Block(stage, rate) for rate in drop_paths))
        self.norm = LayerNorm(stage.width, eps=1e-6)

    def execute(self, x):
        return self.norm(self.blocks(self.embedding(x)))


class PVTv2B2(PublishedModule):
    """(N,3,H,W) to four features at 1/4, 1/8, 1/16, 1/32 of H and W, with ``channels`` channels."""

    channels = tuple(stage.width for stage in STAGES)
    published_names = numbered({"stages.{}.embedding": "patch_embed{}", "stages.{}.blocks": "block{}",
                                "stages.{}.norm": "norm{}"}, (1, 2, 3, 4))

    def __init__(self):
        rates = iter(np.linspace(0, DROP_PATH, sum(stage.depth for stage in STAGES)).tolist())
        inputs = 3, *self.channels
        self.stages = nn.ModuleList([Stage(inputs[index], stage, [next(rates) for _ in range(stage.depth)])
                                     for index, stage in enumerate(STAGES)])
        for module in self.modules():
            _initialise(module)

    def execute(self, x):
        features = []
        x = ops.channels_last(x)
        for stage in self.stages:
            x = stage(x)
            features.append(ops.channels_first(x))
        return features


def _initialise(module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.constant_(module.bias, 0.0)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.gauss_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
        nn.init.constant_(module.bias, 0.0)
