"""PVTv2-B2, by its published names; tokens are (N,H*W,C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WIDTHS, HEADS, RATIOS = (64, 128, 320, 512), (1, 2, 5, 8), (8, 8, 4, 4)
DEPTHS, REDUCTIONS = (3, 4, 6, 3), (8, 4, 2, 1)
DROP_PATH = 0.1


def as_map(tokens, height: int, width: int):
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)


def as_tokens(x):
    return x.flatten(2).transpose(1, 2)


class DropPath(nn.Module):
    """Leaves out the branch of whole samples in training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(x.shape[0], 1, 1, dtype=x.dtype, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class PatchEmbedding(nn.Module):
    def __init__(self, inputs: int, width: int, size: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(inputs, width, size, stride, padding=size // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        x = self.proj(x)
        return self.norm(as_tokens(x)), x.shape[2], x.shape[3]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, reduction: int):
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x, height: int, width: int):
        reduced = x
        if self.reduction > 1:
            reduced = self.norm(as_tokens(self.sr(as_map(x, height, width))))
        key, value = self.kv(reduced).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(*map(self._split, (self.q(x), key, value)))
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split(self, tokens):
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DWConv(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x, height: int, width: int):
        return as_tokens(self.dwconv(as_map(x, height, width)))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.dwconv, self.fc2 = nn.Linear(width, hidden), DWConv(hidden), nn.Linear(hidden, width)

    def forward(self, x, height: int, width: int):
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), height, width)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int, reduction: int, drop_path: float):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads, reduction)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width, width * ratio)
        self.drop_path = DropPath(drop_path)

    def forward(self, x, *size: int):
        x = x + self.drop_path(self.attn(self.norm1(x), *size))
        return x + self.drop_path(self.mlp(self.norm2(x), *size))


class PVTv2B2(nn.ModuleDict):
    channels = WIDTHS

    def __init__(self):
        super().__init__()
        rates = iter(torch.linspace(0, DROP_PATH, sum(DEPTHS)).tolist())
        for i, width in enumerate(WIDTHS):
            geometry = (WIDTHS[i - 1], width, 3, 2) if i else (3, width, 7, 4)
            self[f"patch_embed{i + 1}"] = PatchEmbedding(*geometry)
        for i, width in enumerate(WIDTHS):
            self[f"block{i + 1}"] = nn.ModuleList(
                Block(width, HEADS[i], RATIOS[i], REDUCTIONS[i], next(rates)) for _ in range(DEPTHS[i]))
            self[f"norm{i + 1}"] = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x):
        features = []
        for i in range(1, 5):
            x, *size = self[f"patch_embed{i}"](x)
            for block in self[f"block{i}"]:
                x = block(x, *size)
            x = as_map(self[f"norm{i}"](x), *size)
            features.append(x)
        return features
