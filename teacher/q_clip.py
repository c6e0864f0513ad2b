"""Q-CLIP (arXiv 2508.06092): adapters and prompts on frozen CLIP towers.

Shapes: B clips, T frames, N tokens of a frame, D tower width, Z joint width of image and text, K quality levels,
L tokens of a prompt. Levels run from worst to best, like the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection as TextTower

from rungwise.config import QClipTeacher
from rungwise.prediction import Prediction
from rungwise.progress import note
from rungwise.score.views import ViewRecipe
from teacher.clip_towers import (
    Block,
    ClipImages,
    PeImages,
    clip_config_of,
    load_exactly,
    maybe_recompute,
    note_count,
    read_config,
    read_from,
    read_pretrained,
    read_prompts,
    trainable_count,
)
from teacher.quality_teacher import QualityTeacher
from teacher.weights import find_weights

CONTEXT_TOKENS = 3
Q_CLIP_PROMPTS = [f"X X X a video of {word} quality" for word in ("bad", "poor", "fair", "good", "excellent")]
Adapter = Literal["paper", "release"]
BOTTLENECK: dict[Adapter, int] = {"paper": 64, "release": 128}
Modality = Literal["image", "text"]


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


class QClip(QualityTeacher):
    """Q-CLIP (arXiv 2508.06092): frozen image and text towers, shared cross-modal adapters, learned prompt context.

    logits_BK = scale * cos(v, t_k), feature_BZ = v, the unit mean of the frames' unit embeddings. The score is
    offset + gain * (cos_BK @ w): w is trained, gain and offset only bring it to the label's scale (`fit_closed_form`).

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
        config = clip_config_of(clip_config)
        self.images: ClipImages | PeImages = PeImages(vision) if vision else ClipImages(config)
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

    @property
    def lower_is_frozen(self) -> bool:
        """The layers below the first adapted one."""
        return True

    @property
    def has_closed_form(self) -> bool:
        """Gain and offset are fitted by least squares."""
        return True

    def recompute_activations(self) -> None:
        """Recompute blocks in the backward pass."""
        self.gradient_checkpointing = True

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

    def upper(self, hidden: Tensor) -> Prediction[Tensor]:
        """Score clips by hidden_BTND."""
        clips, num_tokens = hidden.shape[:2], hidden.shape[2]
        x = self._adapted(hidden.flatten(0, 1).to(self.w.dtype), self.images.blocks(num_tokens), "image")
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
            x = maybe_recompute(self.gradient_checkpointing, layer, x, block, f"layer{index}")
        return x

    @torch.no_grad()
    def fit_closed_form(self, prediction: Prediction[Tensor], score_N: Tensor) -> None:
        """Refit gain and offset by least squares, so that the scores of training clips meet their labels.

        Args:
            prediction: this model's, with its present gain and offset.
            score_N: their labels.
        """
        raw = (prediction.score.double() - self.offset) / self.gain
        label = score_N.to(raw)
        centered = raw - raw.mean()
        gain = self.gain.double()
        if centered.square().mean() > 1e-12:  # cosines of one value have no slope
            slope = (centered * label).mean() / centered.square().mean()
            gain = torch.where(slope.abs() > 1e-6, slope, gain)  # a gain of 0 could never be refitted
        self.gain.copy_(gain)
        self.offset.copy_(label.mean() - gain * raw.mean())


def q_clip_settings(teacher: QClipTeacher, recipe: ViewRecipe) -> dict[str, Any]:
    """Constructor settings, but for the label's range, from the config's section and CLIP's folder or hub id.

    Raises:
        ValueError: nothing is there, it is no CLIP, or its tokenizer is missing or does not know the prompts.
    """
    if teacher.vision_checkpoint is not None and teacher.vision is None:
        raise ValueError("vision_checkpoint: is a file of the `vision` tower, which is null; name the tower too")
    config = read_config(teacher.clip)
    prompt_ids = read_prompts(teacher.clip, Q_CLIP_PROMPTS, config)
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
    state: dict[str, Tensor] = read_pretrained(teacher.clip, text_alone=teacher.vision is not None).state_dict()
    load_exactly(model.text, state, teacher.clip, "text_")
    model.logit_scale.copy_(state["logit_scale"])
    with torch.no_grad():
        model.context.copy_(
            model.text.text_model.embeddings.token_embedding(model.prompts_KL)[0, 1 : 1 + CONTEXT_TOKENS]
        )
    if teacher.vision is None:
        load_exactly(model.images.tower, state, teacher.clip, "vis")
    elif teacher.vision_checkpoint is None:
        note(f"q_clip: no vision_checkpoint, so the weights of {teacher.vision} are random")
    else:
        path = find_weights(teacher.vision_checkpoint)
        load_exactly(model.images.tower, read_from(str(path), "safetensors file", partial(load_file, path)), str(path))
    note_count("q_clip", model)
