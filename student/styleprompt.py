"""StylePrompt (QMamba, arXiv 2406.09546): move a frozen student to new videos by the style of its feature maps.

A prompt p is a mixture of a learned bank P, weighted by the map, and sets the map's means and standard deviations:
w = softmax(Conv1x1(GAP(F))), p = sum_m w_m P_m, F' = F (1 + gamma) + beta, with gamma ("variance prompt") and beta
("mean prompt") linear in a narrow conv(p). Known from the paper in outline; widths are ours. gamma = beta = 0 at the
start. Shapes: N frames, C channels, M prompts in the bank.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

REDUCTION: Final = 4  # of the channels, between prompt and gamma and beta


class StylePrompt(nn.Module):
    """One stage's prompt; the identity until it is trained."""

    def __init__(self, channels: int, bank: int) -> None:
        super().__init__()
        self.bank = nn.Parameter(torch.empty(bank, channels))
        nn.init.trunc_normal_(self.bank, std=0.5)
        self.choose = nn.Linear(channels, bank)  # a 1x1 convolution of a pooled map
        self.narrow = nn.Linear(channels, max(4, channels // REDUCTION))
        self.gamma = nn.Linear(self.narrow.out_features, channels)
        self.beta = nn.Linear(self.narrow.out_features, channels)
        for layer in (self.gamma, self.beta):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        """Same shape out."""
        prompt_NC = self.choose(map_NCHW.mean((2, 3))).softmax(-1) @ self.bank
        style = self.narrow(prompt_NC)
        gamma, beta = self.gamma(style)[..., None, None], self.beta(style)[..., None, None]
        styled: Tensor = map_NCHW * (1 + gamma) + beta
        return styled


class StreamPrompt(nn.Module):
    """StylePrompt for the features of patches, its mixture chosen by the bitstream: codec, QP, bits and coded size move
    their means and variances. The identity until it is trained.

    Weights are not brought to a sum of 1: QP and bits are continuous, and a softmax over the bank saturates.
    """

    def __init__(self, dim: int, bank: int, terms: int) -> None:
        super().__init__()
        self.choose, self.bank = nn.Linear(terms, bank), nn.Linear(bank, 2 * dim)
        nn.init.zeros_(self.bank.weight)
        nn.init.zeros_(self.bank.bias)

    def forward(self, feature_BUPD: Tensor, terms_BF: Tensor) -> Tensor:
        """Same shape out."""
        gamma_BD, beta_BD = self.bank(functional.gelu(self.choose(terms_BF))).chunk(2, 1)
        styled: Tensor = feature_BUPD * (1 + gamma_BD[:, None, None]) + beta_BD[:, None, None]
        return styled


def make_prompts(channels: tuple[int, ...], bank: int) -> nn.ModuleList:
    """One prompt a stage, or stages without (`bank` 0)."""
    return nn.ModuleList([StylePrompt(width, bank) if bank else nn.Identity() for width in channels])
