"""CLIPVQA (arXiv 2407.04928): frames that exchange messages in CLIP's image tower.

Shapes: B clips, T frames, M = B * T, N tokens of a frame, D tower width, Z joint width of image and text, P patches,
K quality levels. Levels run from worst to best, like the label.
"""

from __future__ import annotations

from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rungwise.config import ClipVqaTeacher
from rungwise.prediction import Prediction
from rungwise.score.views import ViewRecipe
from teacher.clip_towers import (
    ClipImages,
    clip_config_of,
    load_exactly,
    maybe_recompute,
    note_count,
    read_config,
    read_pretrained,
    read_prompts,
)
from teacher.quality_teacher import QualityTeacher

MESSAGES: Final = 1  # tokens of a frame that keep its messages from block to block
# The paper's six levels are numbers 0 to 5; these words are ours, one CLIP token each.
CLIPVQA_PROMPTS = [f"a video of {word} quality" for word in ("bad", "poor", "fair", "good", "great", "excellent")]


class _Messages(nn.Module):
    """A message token per frame from its class token; the frames of one clip attend to one another's messages."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, cls_BTD: Tensor) -> Tensor:
        """-> message_BTD."""
        message = self.message(cls_BTD)
        x = self.norm(message)
        return cast(Tensor, message + self.attention(x, x, x, need_weights=False)[0])


class _CrossAttention(nn.Module):
    """A transformer layer whose queries are the level words and whose keys and values are the content tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_content, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, text_BKZ: Tensor, content_BPZ: Tensor) -> Tensor:
        """-> text_BKZ."""
        content = self.norm_content(content_BPZ)
        x = text_BKZ + self.attention(self.norm(text_BKZ), content, content, need_weights=False)[0]
        return cast(Tensor, x + self.mlp(self.norm_mlp(x)))


class ClipVqa(QualityTeacher):
    """CLIPVQA (arXiv 2407.04928): in every block the frames of a clip exchange messages; six level words look back.

    A message token joins the frame's tokens in the first block and stays: each block adds its own message to it before
    attention and MLP, and at the end it is a content token beside the patches. The class tokens of all frames pass a
    temporal transformer and are averaged to v. The words' text features t_k attend to the content (patches and
    messages, averaged over time), t'_k = t_k + alpha * attended. logits_BK = scale * cos(v, t'_k), the score is the
    expectation of their softmax over 0..K-1, brought to the label's range; feature_BZ = v, of unit length.
    On purpose not as released: attention stays inside a clip, and every layer trains or comes from a file.
    The text tower only makes t_k, once, in `load_clipvqa`, and is no part of the module.

    Attributes:
        gradient_checkpointing: recompute the blocks in the backward pass instead of keeping activations.
    """

    POSITIONS = 32  # frames of the paper; interpolated to any other number

    def __init__(
        self,
        *,
        num_levels: int,
        clip_config: dict[str, Any],
        frozen_blocks: int,
        aggregation_layers: int,
        cross_attention_layers: int,
        minimum: float,
        maximum: float,
    ) -> None:
        """Random weights and empty level words; see `load_clipvqa`.

        Args:
            clip_config: a CLIPConfig as a dict.
            frozen_blocks: so many first image blocks keep their weights, and if any, so do patches and positions.
                The messages inside them are trained all the same.
            minimum, maximum: the label's range.

        Raises:
            ValueError: more blocks are frozen than there are.
        """
        super().__init__()
        config = clip_config_of(clip_config)
        self.images = ClipImages(config)
        layers = self.images.tower.vision_model.encoder.layers
        if frozen_blocks > len(layers):
            raise ValueError(f"frozen_blocks {frozen_blocks}: the image tower has {len(layers)}; freeze fewer")
        if frozen_blocks:
            vision = self.images.tower.vision_model
            for part in (vision.embeddings, vision.pre_layrnorm, *layers[:frozen_blocks]):
                part.requires_grad_(False)
        for layer in layers:  # softmax cannot see a key's bias: its gradient is rounding, which Adam would follow
            layer.self_attn.k_proj.bias.requires_grad_(False)
        width, joint_width = self.images.width, self.images.joint_width
        heads = self.images.tower.config.num_attention_heads
        self.messages = nn.ModuleList(_Messages(width, heads) for _ in layers)
        self.temporal_position = nn.Parameter(0.02 * torch.randn(self.POSITIONS, width))
        self.aggregation = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(aggregation_layers)
        )
        joint_heads = 1 if joint_width % 64 else joint_width // 64
        self.cross_attention = nn.ModuleList(
            _CrossAttention(joint_width, joint_heads) for _ in range(cross_attention_layers)
        )
        self.alpha = nn.Parameter(torch.tensor(0.01))
        self.levels_KZ: Tensor
        self.level_values: Tensor
        self.logit_scale: Tensor
        self.register_buffer("levels_KZ", torch.zeros(num_levels, joint_width))
        self.register_buffer("level_values", torch.linspace(minimum, maximum, num_levels), persistent=False)
        self.register_buffer("logit_scale", torch.tensor(float(config.logit_scale_init_value or 0)))
        self.gradient_checkpointing = False

    def recompute_activations(self) -> None:
        """Recompute blocks in the backward pass."""
        self.gradient_checkpointing = True

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips of frames_BTHWC uint8 RGB, of whole patches.

        Raises:
            ValueError: the view is not whole patches.
        """
        x_BTND = self.tokens(hidden)
        project = self.images.tower.visual_projection
        positions_1DT = F.interpolate(self.temporal_position.T.unsqueeze(0), size=x_BTND.shape[1], mode="linear")
        cls_BTD = x_BTND[:, :, 0] + positions_1DT.mT
        for layer in self.aggregation:
            cls_BTD = layer(cls_BTD)
        v_BZ = F.normalize(project(cls_BTD.mean(1)).float(), dim=-1)
        content_BPZ = project(x_BTND[:, :, 1:].mean(1))
        attended_BKZ = self.levels_KZ.expand(len(v_BZ), -1, -1)
        for layer in self.cross_attention:
            attended_BKZ = layer(attended_BKZ, content_BPZ)
        text_BKZ = self.levels_KZ + self.alpha * attended_BKZ.float()
        logits_BK = self.logit_scale.exp() * F.cosine_similarity(v_BZ.unsqueeze(1), text_BKZ, dim=-1)
        return Prediction((logits_BK.softmax(-1) * self.level_values).sum(-1), logits_BK, v_BZ)

    def tokens(self, frames_BTHWC: Tensor) -> Tensor:
        """The image tower's normalized tokens after all blocks, x_BTND: class token, patches, message."""
        clips = frames_BTHWC.shape[:2]

        def block(x_MND: Tensor, layer: nn.Module, messages: nn.Module) -> Tensor:
            message = messages(x_MND[:, 0].view(*clips, -1)).flatten(0, 1).unsqueeze(1)
            mixed: Tensor = layer(
                torch.cat([x_MND[:, :-MESSAGES], x_MND[:, -MESSAGES:] + message], 1), attention_mask=None
            )
            return mixed

        x = self.images.tokens(frames_BTHWC)
        x = torch.cat([x, torch.zeros_like(x[:, :MESSAGES])], 1)  # no message yet
        vision = self.images.tower.vision_model
        for layer, messages in zip(vision.encoder.layers, self.messages, strict=True):
            x = maybe_recompute(self.gradient_checkpointing, block, x, layer, messages)
        return cast(Tensor, vision.post_layernorm(x).view(*clips, *x.shape[1:]))


def clipvqa_settings(teacher: ClipVqaTeacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings, but for the label's range; reads and raises as Q-CLIP's."""
    config = read_config(teacher.clip)
    read_prompts(teacher.clip, CLIPVQA_PROMPTS, config)  # a bad tokenizer fails now, not at load
    options = {"num_levels", "frozen_blocks", "aggregation_layers", "cross_attention_layers"}
    return {"clip_config": config, **teacher.model_dump(include=options)}


def load_clipvqa(model: ClipVqa, teacher: ClipVqaTeacher) -> None:
    """Fill the image tower and the level words' text features; reads and raises as Q-CLIP's."""
    clip = read_pretrained(teacher.clip)
    state = clip.state_dict()
    load_exactly(model.images.tower, state, teacher.clip, "vis")
    model.logit_scale.copy_(state["logit_scale"])
    prompts = read_prompts(teacher.clip, CLIPVQA_PROMPTS, clip.config.to_dict())
    with torch.no_grad():
        pooled = torch.cat([clip.text_model(input_ids=torch.tensor([ids])).pooler_output for ids in prompts])
        model.levels_KZ.copy_(F.normalize(clip.text_projection(pooled), dim=-1))
    note_count("clipvqa", model)
