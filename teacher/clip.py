"""Two teachers on CLIP: Q-CLIP (adapters and prompts on frozen towers) and CLIPVQA (frames that exchange messages).

Shapes: B clips, T frames, N tokens of a frame, D tower width, Z joint width of image and text, K quality levels,
L tokens of a prompt. Levels run from worst to best, like the label.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PretrainedConfig
from transformers import CLIPTextModelWithProjection as TextTower
from transformers import CLIPVisionModelWithProjection as VisionTower

from rungwise.config import ClipVqaTeacher, QClipTeacher
from rungwise.prediction import Prediction
from rungwise.progress import note
from teacher.normalize import Normalize

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

CONTEXT_TOKENS = 3
Q_CLIP_PROMPTS = [f"X X X a video of {word} quality" for word in ("bad", "poor", "fair", "good", "excellent")]
# The paper's six levels are numbers 0 to 5; these words are ours, one CLIP token each.
CLIPVQA_PROMPTS = [f"a video of {word} quality" for word in ("bad", "poor", "fair", "good", "great", "excellent")]

Adapter = Literal["paper", "release"]
BOTTLENECK: dict[Adapter, int] = {"paper": 64, "release": 128}
Modality = Literal["image", "text"]
Block = Callable[[Tensor], Tensor]


class CrossModalAdapter(nn.Module):
    """x + s_m * LN(Up(Core(Down(x)))), one learned scalar s per modality from 0.1 (Q-CLIP, arXiv 2508.06092).

    "paper": one bottleneck of 64 for all layers, both modalities and the projection; Core = GELU. Where widths differ,
    there is one Down and Up per width. 0.14 M parameters, as the paper counts.
    "release": Down and Up per layer, shared by modalities of one width; Core = Linear-GELU-Linear of width 128 shared
    by all layers. 1.9 M, as the released code trains. How the release adapts the projection is not known: Down-GELU-
    Linear-Up, shared by both modalities, is our form, chosen because it meets that count.
    """

    def __init__(self, adapter: Adapter, layers: int, image_width: int, text_width: int, joint_width: int) -> None:
        """`layers` adapted in each tower; widths are D of either tower and Z."""
        super().__init__()
        self.per_place = adapter == "release"
        hidden = BOTTLENECK[adapter]
        places = [(f"layer{i}", width) for i in range(layers) for width in (image_width, text_width)]
        keys = {self._key(place, width): width for place, width in [*places, ("projection", joint_width)]}
        self.down = nn.ModuleDict({key: nn.Linear(width, hidden) for key, width in keys.items()})
        self.up = nn.ModuleDict(
            {key: nn.Sequential(nn.Linear(hidden, width), nn.LayerNorm(width)) for key, width in keys.items()}
        )
        self.core = nn.Sequential(nn.GELU())
        self.projection_core = self.core
        if self.per_place:
            self.core = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
            self.projection_core = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden))
        self.scale = nn.ParameterDict({m: nn.Parameter(torch.tensor(0.1)) for m in ("image", "text")})

    def _key(self, place: str, width: int) -> str:
        return f"{place}_{width}" if self.per_place else f"width_{width}"

    def forward(self, x: Tensor, place: str, modality: Modality) -> Tensor:
        """x_...D -> x_...D; `place` is "layer0" (the first adapted) and on, or "projection"."""
        key = self._key(place, x.shape[-1])
        core = self.projection_core if place == "projection" else self.core
        adapted: Tensor = x + self.scale[modality] * self.up[key](core(self.down[key](x)))
        return adapted


def adapter_count(adapter: Adapter, layers: int, image_width: int, text_width: int, joint_width: int) -> int:
    """Number of Q-CLIP's trained parameters (adapters, scalars, context, w), without building its towers."""
    with torch.device("meta"):
        adapters = CrossModalAdapter(adapter, layers, image_width, text_width, joint_width)
    return trainable_count(adapters) + CONTEXT_TOKENS * text_width + len(Q_CLIP_PROMPTS)


def trainable_count(model: nn.Module) -> int:
    """Number of parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class _ClipImages(nn.Module):
    """CLIP's image tower in three steps, frames_BTHWC -> tokens_MND -> blocks -> joint_MZ, with M = B*T."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.tower = cast(Any, VisionTower(cast(Any, config.vision_config)))
        self.normalize = Normalize(CLIP_MEAN, CLIP_STD)
        self.patch: int = self.tower.config.patch_size
        self.width: int = self.tower.config.hidden_size
        self.depth: int = self.tower.config.num_hidden_layers
        self.joint_width: int = self.tower.config.projection_dim

    def tokens(self, frames_BTHWC: Tensor) -> Tensor:
        _check_patches(frames_BTHWC, self.patch)
        vision = self.tower.vision_model
        x = vision.embeddings(self.normalize(frames_BTHWC), interpolate_pos_encoding=True)
        return cast(Tensor, vision.pre_layrnorm(x))

    def blocks(self, num_tokens: int) -> list[Block]:
        return [partial(layer, attention_mask=None) for layer in self.tower.vision_model.encoder.layers]

    def project(self, x_MND: Tensor) -> Tensor:
        return cast(Tensor, self.tower.visual_projection(self.tower.vision_model.post_layernorm(x_MND[:, 0])))


class _PeImages(nn.Module):
    """A PE-Core tower of timm (arXiv 2504.13181) in the same steps. Its rotary positions need square views."""

    def __init__(self, name: str) -> None:
        super().__init__()
        if not name.startswith("vit_pe_core") or not timm.is_model(name):
            known = ", ".join(timm.list_models("vit_pe_core*"))
            raise ValueError(f"vision {name}: not a PE-Core tower of timm; choose one of {known}")
        self.tower = cast(Any, timm.create_model(name, pretrained=False, dynamic_img_size=True))
        self.normalize = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.patch: int = self.tower.patch_embed.patch_size[0]
        self.width: int = self.tower.embed_dim
        self.depth: int = len(self.tower.blocks)
        self.joint_width: int = self.tower.num_classes

    def tokens(self, frames_BTHWC: Tensor) -> Tensor:
        _check_patches(frames_BTHWC, self.patch)
        height, width = frames_BTHWC.shape[2:4]
        if height != width:  # `blocks` knows the number of patches, not their grid
            raise ValueError(f"view of {height}x{width} pixels: PE-Core takes square views; change `views`")
        x, _ = self.tower._pos_embed(self.tower.patch_embed(self.normalize(frames_BTHWC)))
        return cast(Tensor, self.tower.norm_pre(x))

    def blocks(self, num_tokens: int) -> list[Block]:
        side = math.isqrt(num_tokens - self.tower.num_prefix_tokens)
        rope = self.tower.rope.get_embed(shape=(side, side))
        return [partial(block, rope=rope) for block in self.tower.blocks]

    def project(self, x_MND: Tensor) -> Tensor:
        return cast(Tensor, self.tower.forward_head(self.tower.norm(x_MND)))


class QClip(nn.Module):
    """Q-CLIP (arXiv 2508.06092): frozen image and text towers, shared cross-modal adapters, learned prompt context.

    logits_BK = scale * cos(v, t_k), feature_BZ = v, the unit mean of the frames' unit embeddings. The score is
    offset + gain * (cos_BK @ w): w is trained, gain and offset only bring it to the label's scale (`settle`).

    Attributes:
        gradient_checkpointing: recompute the adapted layers in the backward pass instead of keeping activations.
    """

    def __init__(
        self,
        *,
        num_levels: int,
        clip_config: dict[str, Any],
        prompt_ids: list[list[int]],
        vision: str | None,
        adapter: Adapter,
        adapted_layers: int,
        minimum: float,
        maximum: float,
    ) -> None:
        """Random weights; see `load_q_clip`.

        Args:
            clip_config: a CLIPConfig as a dict.
            prompt_ids: tokens of each level's prompt, worst first: start, three placeholders, text, end.
            vision: a timm PE-Core tower in place of CLIP's own image tower, or None.
            adapter: see `CrossModalAdapter`.
            adapted_layers: of the end of both towers.
            minimum, maximum: the label's range.

        Raises:
            ValueError: a tower has fewer layers than are adapted, or the towers' joint widths differ.
        """
        super().__init__()
        if len(prompt_ids) != num_levels:
            raise ValueError(f"q_clip: {len(prompt_ids)} prompts for {num_levels} levels; give one prompt a level")
        config = _clip_config(clip_config)
        self.images: _ClipImages | _PeImages = _PeImages(vision) if vision else _ClipImages(config)
        self.text = cast(Any, TextTower(cast(Any, config.text_config)))
        self.requires_grad_(False)
        text_width, joint_width = self.text.config.hidden_size, self.text.config.projection_dim
        depth = min(self.text.config.num_hidden_layers, self.images.depth)
        if self.images.joint_width != joint_width:
            raise ValueError(
                f"vision {vision}: embeddings of {self.images.joint_width}, but the text tower's are {joint_width}; "
                "choose towers that were trained together"
            )
        if adapted_layers > depth:
            raise ValueError(f"adapted_layers {adapted_layers}: the shallower tower has {depth}; adapt fewer")
        self.adapted_layers = adapted_layers
        self.adapters = CrossModalAdapter(adapter, adapted_layers, self.images.width, text_width, joint_width)
        self.context = nn.Parameter(0.02 * torch.randn(CONTEXT_TOKENS, text_width))
        self.w = nn.Parameter(torch.linspace(-1, 1, num_levels))

        longest = max(map(len, prompt_ids))  # attention is causal, so what pads a prompt is never seen
        padded = [p + p[-1:] * (longest - len(p)) for p in prompt_ids]
        self.ends = [len(p) - 1 for p in prompt_ids]
        self.prompts_KL: Tensor
        self.register_buffer("prompts_KL", torch.tensor(padded), persistent=False)
        self.gain: Tensor
        self.offset: Tensor
        self.logit_scale: Tensor
        self.register_buffer("gain", torch.tensor(float(maximum - minimum)))
        self.register_buffer("offset", torch.tensor((minimum + maximum) / 2))
        self.register_buffer("logit_scale", torch.tensor(float(config.logit_scale_init_value or 0)))
        self.gradient_checkpointing = False

    def forward(self, frames_BTHWC: Tensor) -> Prediction[Tensor]:
        """Judge clips; uint8 RGB of whole patches in, score on the label's scale out."""
        return self.upper(self.lower(frames_BTHWC))

    @torch.no_grad()
    def lower(self, frames_BTHWC: Tensor) -> Tensor:
        """Image tokens before the first adapted layer, hidden_BTND: frozen, so they can be kept.

        Raises:
            ValueError: the view is not whole patches.
        """
        x = self.images.tokens(frames_BTHWC)
        blocks = self.images.blocks(x.shape[1])
        for block in blocks[: len(blocks) - self.adapted_layers]:
            x = block(x)
        return x.view(*frames_BTHWC.shape[:2], *x.shape[1:])

    def upper(self, hidden_BTND: Tensor) -> Prediction[Tensor]:
        """The rest of `forward`, from what `lower` gives."""
        clips, num_tokens = hidden_BTND.shape[:2], hidden_BTND.shape[2]
        x = self._adapted(hidden_BTND.flatten(0, 1).to(self.w.dtype), self.images.blocks(num_tokens), "image")
        frames = F.normalize(self.adapters(self.images.project(x), "projection", "image").float(), dim=-1)
        v_BZ = F.normalize(frames.view(*clips, -1).mean(1), dim=-1)
        # Element by element, for under autocast a product of matrices would round the score to bf16.
        cos_BK = F.cosine_similarity(v_BZ.unsqueeze(1), self._levels().unsqueeze(0), dim=-1)
        score_B = self.offset + self.gain * (cos_BK * self.w).sum(-1)
        return Prediction(score_B, self.logit_scale.exp() * cos_BK, v_BZ)

    def _levels(self) -> Tensor:
        """t_KZ."""
        text = self.text.text_model
        tokens = text.embeddings.token_embedding(self.prompts_KL)
        context = self.context.expand(len(tokens), -1, -1)
        x = text.embeddings(inputs_embeds=torch.cat([tokens[:, :1], context, tokens[:, 1 + CONTEXT_TOKENS :]], 1))
        blocks = [partial(layer, attention_mask=None, is_causal=True) for layer in text.encoder.layers]
        for block in blocks[: len(blocks) - self.adapted_layers]:
            x = block(x)
        x = text.final_layer_norm(self._adapted(x, blocks, "text"))
        ends = torch.stack([row[end] for row, end in zip(x, self.ends, strict=True)])
        return cast(Tensor, self.adapters(self.text.text_projection(ends), "projection", "text").float())

    def _adapted(self, x: Tensor, blocks: Sequence[Block], modality: Modality) -> Tensor:
        """The last `adapted_layers` of a tower's blocks, an adapter after each."""

        def layer(x: Tensor, block: Block, place: str) -> Tensor:
            return cast(Tensor, self.adapters(block(x), place, modality))

        for index, block in enumerate(blocks[len(blocks) - self.adapted_layers :]):
            x = _maybe_recompute(self.gradient_checkpointing, layer, x, block, f"layer{index}")
        return x

    @torch.no_grad()
    def settle(self, prediction: Prediction[Tensor], label_N: Tensor, *_streams: Tensor) -> None:
        """Refit gain and offset by least squares, so that the scores of training clips meet their labels.

        Args:
            prediction: this model's, with its present gain and offset.
            label_N: on the label's scale.
        """
        raw = (prediction.score.double() - self.offset) / self.gain
        label = label_N.to(raw)
        centered = raw - raw.mean()
        gain = self.gain.double()
        if centered.square().mean() > 1e-12:  # cosines of one value have no slope
            slope = (centered * label).mean() / centered.square().mean()
            gain = torch.where(slope.abs() > 1e-6, slope, gain)  # a gain of 0 could never be refitted
        self.gain.copy_(gain)
        self.offset.copy_(label.mean() - gain * raw.mean())


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


class ClipVqa(nn.Module):
    """CLIPVQA (arXiv 2407.04928): in every block the frames of a clip exchange messages; six level words look back.

    In a block, a message token joins the frame's tokens for their attention and MLP, then is dropped. The class tokens
    of all frames pass a temporal transformer and are averaged to v. The words' text features t_k attend to the content
    (the patches, averaged over time), t'_k = t_k + alpha * attended. logits_BK = scale * cos(v, t'_k), the score is
    the expectation of their softmax over 0..K-1, brought to the label's range; feature_BZ = v, of unit length.
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
        config = _clip_config(clip_config)
        self.images = _ClipImages(config)
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

    def forward(self, frames_BTHWC: Tensor) -> Prediction[Tensor]:
        """Judge clips; uint8 RGB of whole patches in, score on the label's scale out.

        Raises:
            ValueError: the view is not whole patches.
        """
        x_BTND = self.tokens(frames_BTHWC)
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
        """The image tower's normalized tokens after all messages, x_BTND, class token first."""
        clips = frames_BTHWC.shape[:2]

        def block(x_MND: Tensor, layer: nn.Module, messages: nn.Module) -> Tensor:
            message = messages(x_MND[:, 0].view(*clips, -1)).flatten(0, 1).unsqueeze(1)
            joined: Tensor = layer(torch.cat([x_MND, message], 1), attention_mask=None)
            return joined[:, :-1]

        x = self.images.tokens(frames_BTHWC)
        vision = self.images.tower.vision_model
        for layer, messages in zip(vision.encoder.layers, self.messages, strict=True):
            x = _maybe_recompute(self.gradient_checkpointing, block, x, layer, messages)
        return cast(Tensor, vision.post_layernorm(x).view(*clips, *x.shape[1:]))


def q_clip_settings(teacher: QClipTeacher) -> dict[str, Any]:
    """Constructor settings, but for the label's range, from the config's section and CLIP's folder or hub id.

    Raises:
        ValueError: nothing is there, it is no CLIP, or its tokenizer is missing or does not know the prompts.
    """
    if teacher.vision_checkpoint is not None and teacher.vision is None:
        raise ValueError("vision_checkpoint: is a file of the `vision` tower, which is null; name the tower too")
    config = _read_config(teacher.clip)
    prompt_ids = _read_prompts(teacher.clip, Q_CLIP_PROMPTS, config)
    start = 1 + CONTEXT_TOKENS
    if any(len(set(ids[1:start])) != 1 or ids[:start] != prompt_ids[0][:start] for ids in prompt_ids):
        raise ValueError(f"{teacher.clip}: the tokenizer does not read 'X' as one token after a start; use CLIP's own")
    return {
        "clip_config": config,
        "prompt_ids": prompt_ids,
        **teacher.model_dump(include={"num_levels", "vision", "adapter", "adapted_layers"}),
    }


def load_q_clip(model: QClip, teacher: QClipTeacher) -> None:
    """Fill the towers from CLIP's folder or hub id and the `vision_checkpoint`, strictly; safetensors only.

    The learned context starts from the embeddings of the tokens whose place it takes.

    Raises:
        ValueError: a file is missing or unreadable, or a weight is missing, odd or of another shape; it is named.
    """
    state: dict[str, Tensor] = _pretrained(teacher.clip).state_dict()
    _load_exactly(model.text, state, teacher.clip, "text_")
    model.logit_scale.copy_(state["logit_scale"])
    with torch.no_grad():
        model.context.copy_(
            model.text.text_model.embeddings.token_embedding(model.prompts_KL)[0, 1 : 1 + CONTEXT_TOKENS]
        )
    if teacher.vision is None:
        _load_exactly(model.images.tower, state, teacher.clip, "vis")
    elif teacher.vision_checkpoint is None:
        note(f"q_clip: no vision_checkpoint, so the weights of {teacher.vision} are random")
    else:
        path = teacher.vision_checkpoint
        _load_exactly(model.images.tower, _from_place(path, "safetensors file", partial(load_file, path)), path)
    _note_count("q_clip", model)


def clipvqa_settings(teacher: ClipVqaTeacher) -> dict[str, Any]:
    """Constructor settings, but for the label's range; reads and raises as `q_clip_settings`."""
    config = _read_config(teacher.clip)
    _read_prompts(teacher.clip, CLIPVQA_PROMPTS, config)  # so that a bad tokenizer is told of now, not at load
    options = {"num_levels", "frozen_blocks", "aggregation_layers", "cross_attention_layers"}
    return {"clip_config": config, **teacher.model_dump(include=options)}


def load_clipvqa(model: ClipVqa, teacher: ClipVqaTeacher) -> None:
    """Fill the image tower and the level words' text features; reads and raises as `load_q_clip`."""
    clip = _pretrained(teacher.clip)
    state = clip.state_dict()
    _load_exactly(model.images.tower, state, teacher.clip, "vis")
    model.logit_scale.copy_(state["logit_scale"])
    prompts = _read_prompts(teacher.clip, CLIPVQA_PROMPTS, clip.config.to_dict())
    with torch.no_grad():
        pooled = torch.cat([clip.text_model(input_ids=torch.tensor([ids])).pooler_output for ids in prompts])
        model.levels_KZ.copy_(F.normalize(clip.text_projection(pooled), dim=-1))
    _note_count("clipvqa", model)


def _check_patches(frames_BTHWC: Tensor, patch: int) -> None:
    height, width = frames_BTHWC.shape[2:4]
    if height % patch or width % patch:
        raise ValueError(f"view of {height}x{width} pixels: not whole patches of {patch}; change `views`")


def _maybe_recompute(recompute: bool, function: Callable[..., Tensor], *args: Any) -> Tensor:
    return cast(Tensor, checkpoint(function, *args, use_reentrant=False)) if recompute else function(*args)


def _note_count(name: str, model: nn.Module) -> None:
    note(f"{name}: {trainable_count(model):,} trainable of {sum(p.numel() for p in model.parameters()):,}")


def _clip_config(values: dict[str, Any]) -> CLIPConfig:
    config = CLIPConfig.from_dict(values)
    for tower in (cast(Any, config.text_config), cast(Any, config.vision_config)):
        tower.projection_dim = config.projection_dim  # a tower's own is not what CLIPModel goes by
        tower._attn_implementation = "sdpa"  # of whose `is_causal` the text tower makes use
    return config


def _read_config(clip: str) -> dict[str, Any]:
    """CLIPConfig of a folder or hub id as a JSON-able dict, without what belongs to the place or the precision."""
    path = Path(clip)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) > 2 or clip.startswith(".")):
        raise ValueError(f"{clip}: no such folder; give a CLIP folder or a hub id (OWNER/NAME)")
    values = _from_place(clip, "config.json", lambda: PretrainedConfig.get_config_dict(clip)[0])
    if values.get("model_type") != "clip":
        raise ValueError(f"{clip}: config.json is not a CLIP's but '{values.get('model_type')}'; give a CLIP")
    local = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key not in local}

    config = CLIPConfig.from_dict(values)
    return cast(dict[str, Any], json.loads(config.to_json_string(use_diff=False), object_pairs_hook=keep))


def _read_prompts(clip: str, prompts: list[str], config: dict[str, Any]) -> list[list[int]]:
    tokenizer = cast(Any, _from_place(clip, "tokenizer", lambda: cast(Any, AutoTokenizer).from_pretrained(clip)))
    all_ids: list[list[int]] = [list(map(int, tokenizer(prompt)["input_ids"])) for prompt in prompts]
    text = config["text_config"]
    for prompt, ids in zip(prompts, all_ids, strict=True):
        # A folder without tokenizer files gives, without a word, a tokenizer that knows nothing.
        if len(ids) < 3 or tokenizer.unk_token_id in ids[1:-1] or max(ids) >= text["vocab_size"]:
            raise ValueError(f"{clip}: no tokenizer that knows '{prompt}'; copy CLIP's tokenizer files there")
        if ids[-1] != tokenizer.eos_token_id or len(ids) > text["max_position_embeddings"]:
            raise ValueError(f"{clip}: the tokenizer's '{prompt}' has no end token or is too long; use CLIP's own")
    return all_ids


def _pretrained(clip: str) -> Any:
    """CLIPModel in fp32, every weight of which comes from the file and which uses every weight there."""
    options = {
        "use_safetensors": True,
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,
    }
    load = partial(cast(Any, CLIPModel).from_pretrained, clip, **options)
    model, report = _from_place(clip, "weights (safetensors)", load)
    unused = [key for key in report["unexpected_keys"] if not key.endswith("position_ids")]  # older files' constants
    _name_odd_keys(sorted(report["missing_keys"]), sorted(unused), clip)
    for key, found, wanted in report["mismatched_keys"]:
        raise ValueError(f"{clip}: {key} is {list(found)}, not {list(wanted)}; give the weights of its config.json")
    return model.eval()


def _from_place(place: str, what: str, read: Callable[[], Any]) -> Any:
    """`read()`, whose many errors become one line."""
    try:
        return read()
    except Exception as error:  # transformers, its hub client, tokenizers and safetensors raise each their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{place}: no {what} could be read ({reason}); check the place and its files") from error


def _load_exactly(module: nn.Module, state: dict[str, Tensor], where: str, prefix: str = "") -> None:
    """Fill a module from the keys that start with `prefix`, which must be its own, neither more nor less."""
    own, state = module.state_dict(), {key: value for key, value in state.items() if key.startswith(prefix)}
    _name_odd_keys(sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys()), where)
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise ValueError(f"{where}: {key} is {list(value.shape)}, not {list(own[key].shape)}; wrong checkpoint?")
    module.load_state_dict(state, strict=True)


def _name_odd_keys(missing: list[str], unexpected: list[str], where: str) -> None:
    if missing:
        raise ValueError(f"{where}: {missing[0]} is missing ({len(missing)} such); give a complete checkpoint")
    if unexpected:
        raise ValueError(f"{where}: {unexpected[0]} is not known ({len(unexpected)} such); give a checkpoint of CLIP")
