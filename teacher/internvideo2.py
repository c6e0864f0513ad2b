"""InternVideo2's vision tower (arXiv 2403.15377) on plain PyTorch, and the quality teacher made of it (InternVQA).

State-dict keys and maths are the official release's, so its checkpoints load strictly (teacher/weights.py reads
them). Shapes: B clips, T frames, H W pixels, N = 1 + T * (H / 14) * (W / 14) tokens, class token first, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rungwise.config import InternVideo2Student, InternVideo2Teacher
from rungwise.prediction import Prediction
from rungwise.progress import note
from rungwise.score.views import ViewRecipe
from teacher.fast_inference import compile_blocks, prepare_for_inference
from teacher.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize
from teacher.numerics import in_fp32, vectorize
from teacher.positions import fit_positions, sincos_3d
from teacher.quality_teacher import QualityTeacher
from teacher.releases import KNOWN_EXTRAS, MAY_LACK, has_extra_mlp, without_prefix
from teacher.weights import Card, account, find_weights, read_foreign, read_tensors

# embed_dim, depth, num_heads, mlp_ratio; the pooled width is 768 in all.
SIZES: dict[str, dict[str, Any]] = {
    "S": {"embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4},
    "B": {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4},
    "L": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "mlp_ratio": 4},
    "1B": {"embed_dim": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
    "6B": {"embed_dim": 3200, "depth": 48, "num_heads": 25, "mlp_ratio": 4},
}


class RMSNorm(nn.RMSNorm):
    """RMSNorm over the width, eps 1e-6, whose fp32 weight does not keep bf16 tokens from the fused kernel."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        return functional.rms_norm(x_BND, self.normalized_shape, self.weight.to(x_BND.dtype), self.eps)


class Attention(nn.Module):
    """Self-attention; q and k each pass an RMSNorm over the whole width before the head split."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_norm, self.k_norm = RMSNorm(dim), RMSNorm(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        q, k, v = self.qkv(x_BND).chunk(3, -1)
        return self.proj(_attend(self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype), v, self.num_heads))


def _attend(q_BMD: Tensor, k_BND: Tensor, v_BND: Tensor, num_heads: int) -> Tensor:
    heads = [part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in (q_BMD, k_BND, v_BND)]
    return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """Two layers; the official fused kernel's GELU is the tanh form, its unfused code's the exact one."""

    def __init__(self, dim: int, hidden: int, gelu: str) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.approximate = {"tanh": "tanh", "exact": "none"}[gelu]
        self.gelu_in_product = False  # set by teacher/fast_inference.py

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        if self.gelu_in_product:
            rows = x_BND.flatten(0, 1).to(self.fc1.weight.dtype)
            hidden = torch._addmm_activation(self.fc1.bias, rows, self.fc1.weight.t(), use_gelu=True)
            return self.fc2(hidden).view(x_BND.shape)
        return self.fc2(functional.gelu(self.fc1(x_BND), approximate=self.approximate))


class LayerScale(nn.Module):
    """x * gamma, in fp32 whatever the precision around it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        return (x_BND.float() * self.gamma.float()).to(x_BND.dtype)


class Block(nn.Module):
    """x += ls1(attn(norm1(x))); x += ls2(mlp(norm2(x)))."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, gelu: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio + 1e-6), gelu)
        self.ls1, self.ls2 = LayerScale(dim), LayerScale(dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> x_BND."""
        x_BND = x_BND + self.ls1(self.attn(self.norm1(x_BND)))
        return x_BND + self.ls2(self.mlp(self.norm2(x_BND)))


class CrossAttention(nn.Module):
    """Attention with separate q, k, v; the biases are parameters beside bias-free layers, as in the release's keys."""

    def __init__(self, dim: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.zeros(dim)) for _ in range(3))
        self.proj = nn.Linear(dim, out_dim)

    def forward(self, q_BMD: Tensor, k_BND: Tensor, v_BND: Tensor) -> Tensor:
        """q_BMD, k_BND, v_BND -> x_BMO."""
        q, k, v = self.q(q_BMD), self.k(k_BND), self.v(v_BND)
        q, k, v = q + self.q_bias.to(q.dtype), k + self.k_bias.to(k.dtype), v + self.v_bias.to(v.dtype)
        return self.proj(_attend(q, k, v, self.num_heads))


class AttentionPool(nn.Module):
    """The mean of all tokens asks all tokens."""

    def __init__(self, dim: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(dim, eps=1e-5) for _ in range(3))
        self.cross_attn = CrossAttention(dim, num_heads, out_dim)

    def forward(self, x_BND: Tensor) -> Tensor:
        """x_BND -> pooled_BO."""
        query = self.norm1_q(x_BND.mean(1, keepdim=True))
        return self.cross_attn(query, self.norm1_k(x_BND), self.norm1_v(x_BND)).squeeze(1)


class PatchConv(nn.Conv3d):
    """A convolution whose stride is its kernel, as the product it is: cuDNN's bf16 kernels for it can be very slow."""

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """x_BCTHW -> x_BND, tokens in (T, H, W) order."""
        t, h, w = self.kernel_size
        batch, channels, frames, height, width = x_BCTHW.shape
        x = x_BCTHW.reshape(batch, channels, frames // t, t, height // h, h, width // w, w)
        x_BNP = x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(batch, -1, channels * t * h * w)
        return functional.linear(x_BNP, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    """One tubelet of one patch a token."""

    def __init__(self, dim: int, channels: int, tubelet: int, patch: int) -> None:
        super().__init__()
        self.proj = PatchConv(channels, dim, (tubelet, patch, patch), (tubelet, patch, patch))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """x_BCTHW -> x_BND."""
        return self.proj(x_BCTHW)


class InternVideo2(nn.Module):
    """The vision tower under official keys. Separable positions are added up on loading, so there is one kind here."""

    def __init__(
        self,
        *,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        num_frames: int,
        img_size: int = 224,
        patch_size: int = 14,
        tubelet_size: int = 1,
        in_chans: int = 3,
        attn_pool_num_heads: int = 16,
        clip_embed_dim: int = 768,
        num_classes: int = 0,
        gelu: str = "exact",
        extra_mlp: bool = False,
    ) -> None:
        """`num_classes` 0: no class head, as a quality teacher has it. `extra_mlp`: of attention-pool files."""
        super().__init__()
        self.grid_THW = (num_frames // tubelet_size, img_size // patch_size, img_size // patch_size)
        self.input_THW = (num_frames, img_size, img_size)
        if num_frames % tubelet_size or img_size % patch_size:
            raise ValueError(f"internvideo2: {num_frames} frames of {img_size} px are no whole number of tubelets of "
                             f"{tubelet_size} and patches of {patch_size} px; change the view recipe")  # fmt: skip
        self.patch_embed = PatchEmbed(embed_dim, in_chans, tubelet_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(sincos_3d(embed_dim, self.grid_THW))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, gelu) for _ in range(depth))
        self.clip_projector = AttentionPool(embed_dim, attn_pool_num_heads, clip_embed_dim)
        self.extra_mlp = None
        if extra_mlp:
            mlp = Mlp(clip_embed_dim, 4 * clip_embed_dim, "exact")  # never fused in the release
            self.extra_mlp = nn.Sequential(nn.LayerNorm(clip_embed_dim), mlp)
        self.fc_norm = nn.LayerNorm(clip_embed_dim)
        self.head = nn.Linear(clip_embed_dim, num_classes) if num_classes else None
        self.gradient_checkpointing = False
        self.apply(_initialize)

    def forward(self, x_BCTHW: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Tokens x_BND after block `stop` - 1, from pixels (`start` 0) or from the tokens after block `start` - 1."""
        if start == 0:
            if x_BCTHW.shape[2:] != self.input_THW:
                raise ValueError(
                    f"internvideo2: views of (frames, height, width) {tuple(x_BCTHW.shape[2:])}, the model takes "
                    f"{self.input_THW}; set sample_frames and sample_grid to the view recipe's"
                )
            x_BND = self.patch_embed(x_BCTHW.to(self.patch_embed.proj.weight.dtype))
            x_BND = (
                torch.cat([self.cls_token.expand(x_BND.shape[0], -1, -1).to(x_BND.dtype), x_BND], 1) + self.pos_embed
            )
        else:
            x_BND = x_BCTHW
        for block in self.blocks[start:stop]:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x_BND = checkpoint(block, x_BND, use_reentrant=False)
            else:
                x_BND = block(x_BND)
        return x_BND

    def pool(self, x_BND: Tensor) -> Tensor:
        """The clip's feature_BO, O the pooled width."""
        pooled_BO = self.clip_projector(x_BND)
        if self.extra_mlp is not None:
            pooled_BO = pooled_BO + self.extra_mlp(pooled_BO)
        return self.fc_norm(pooled_BO)

    def classify(self, x_BCTHW: Tensor) -> Tensor:
        """Class logits of normalized clips, or the feature where there is no head."""
        feature = self.pool(self(x_BCTHW))
        return feature if self.head is None else self.head(feature)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ScoredTower(nn.Module):
    """A tower, a linear score of its feature, and frozen first blocks: what teacher and student share."""

    def __init__(self, *, shape: Mapping[str, Any], tune: str, num_levels: int, minimum: float, maximum: float) -> None:
        """`shape` goes to `InternVideo2`; `tune` says what is trained.

        head: the score's layer alone. last_block: and the last block, the pooling and its norm, so that everything
        below is frozen and may be cached. internvqa: the paper's rule, blocks 0 to depth - 2 frozen and all that is
        no block (patches and positions included) trained. all: everything.
        """
        super().__init__()
        self.backbone = InternVideo2(**shape)
        self.score = nn.Linear(self.backbone.fc_norm.normalized_shape[0], 1)
        nn.init.trunc_normal_(self.score.weight, std=0.02)  # begin near the middle of the scale
        nn.init.zeros_(self.score.bias)
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.num_levels, self.minimum, self.maximum = num_levels, minimum, maximum
        self.frozen_blocks = freeze_tower(self.backbone, tune)

    @property
    def lower_is_frozen(self) -> bool:
        """Whether patches and the first blocks are frozen."""
        return self.frozen_blocks is not None

    def recompute_activations(self) -> None:
        """Recompute blocks in the backward pass."""
        self.backbone.gradient_checkpointing = True

    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """Tokens x_BND after the frozen blocks, or the frames where patches are trained."""
        if self.frozen_blocks is None:
            return frames_BTHWC
        with torch.no_grad():
            return self.backbone(self._clips(frames_BTHWC), stop=self.frozen_blocks)

    def tokens(self, hidden: Tensor) -> Tensor:
        """Tokens x_BND after all blocks, by what `lower` gave."""
        if self.frozen_blocks is None:
            return self.backbone(self._clips(hidden))
        return self.backbone(hidden, start=self.frozen_blocks)

    def _clips(self, frames_BTHWC: Tensor) -> Tensor:
        x_NCHW: Tensor = self.normalize(frames_BTHWC)
        # Not by the batch's size: an export would take it for a constant.
        return x_NCHW.unflatten(0, (-1, frames_BTHWC.shape[1])).transpose(1, 2)


class InternVideo2Quality(ScoredTower, QualityTeacher):
    """InternVQA's teacher (arXiv 2502.19026): feature = fc_norm(pool(tokens)), score = Linear(feature)."""

    full_precision = ("score",)

    def compile_blocks(self) -> None:
        """Compile the blocks, which share one compilation."""
        compile_blocks(self.backbone.blocks)

    def prepare_for_inference(self) -> None:
        """Make the blocks fast (teacher/fast_inference.py)."""
        prepare_for_inference(self.backbone.blocks)

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips by what `lower` gives."""
        feature = self.backbone.pool(self.tokens(hidden))
        fraction = 0.5 + in_fp32(self.score, feature).squeeze(-1)
        score = self.minimum + (self.maximum - self.minimum) * fraction
        return Prediction(score, vectorize(fraction, self.num_levels), feature)


def freeze_tower(tower: InternVideo2, tune: str) -> int | None:
    """Freeze what `tune` does not train; the number of blocks below the first trained weight, or None where patches are
    trained and nothing can be kept."""
    depth = len(tower.blocks)
    if tune == "internvqa":
        tower.blocks[:-1].requires_grad_(False)
    elif tune != "all":
        tower.requires_grad_(False)
    if tune == "last_block":
        for part in (tower.blocks[-1], tower.clip_projector, tower.fc_norm, tower.extra_mlp):
            if part is not None:
                part.requires_grad_(True)
    return {"head": depth, "last_block": depth - 1, "internvqa": None, "all": None}[tune]


def internvideo2_shape(section: InternVideo2Teacher | InternVideo2Student, recipe: ViewRecipe) -> dict[str, Any]:
    """The tower's settings, from the config's section and the views that will be seen; a checkpoint is looked into."""
    size = SIZES[section.size] if isinstance(section.size, str) else section.size.model_dump()
    shape = size | {"num_frames": recipe.num_frames, "img_size": recipe.size_px, "gelu": section.gelu}
    if section.checkpoint is not None and has_extra_mlp(read_tensors(find_weights(section.checkpoint))[0]):
        shape["extra_mlp"] = True
    return shape


def internvideo2_settings(teacher: InternVideo2Teacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings from the config's section and the views that will be seen."""
    return {"shape": internvideo2_shape(teacher, recipe), "tune": teacher.tune, "num_levels": teacher.num_levels}


def load_internvideo2(model: InternVideo2Quality, teacher: InternVideo2Teacher) -> None:
    """Fill the tower from `teacher.checkpoint`; a class head in the file is dropped."""
    if teacher.checkpoint is None:
        note("teach: internvideo2 starts from random weights (checkpoint: null)")
        return
    state, card = read_foreign(teacher.checkpoint)
    fill_tower(model.backbone, state, card)
    note(f"teach: {card.summary()}")


def fill_tower(tower: InternVideo2, state: Mapping[str, Tensor], card: Card) -> None:
    """Load an official state dict strictly, whatever wraps and prefixes it; every key is accounted for in `card`.

    Positions of another number of frames or another crop are interpolated: linearly in time, bicubically in space.

    Raises:
        ValueError: a key is unknown, missing, or of another shape; the first is named.
    """
    want = tower.state_dict()
    own, card.prefix = without_prefix(state)
    extras = KNOWN_EXTRAS if tower.head is not None else (*KNOWN_EXTRAS, "head.")
    fitted = fit_positions(own, tower.grid_THW, card)
    account(fitted, want, card, extras=extras, may_lack=MAY_LACK)
    # In place and one by one: under ZeRO-3 the caller gathers, and no second copy of 6B weights is ever held.
    with torch.no_grad():
        for name, tensor in {**dict(tower.named_parameters()), **dict(tower.named_buffers())}.items():
            if name in fitted:
                tensor.copy_(fitted[name])
