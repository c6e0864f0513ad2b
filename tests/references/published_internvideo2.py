"""Every published InternVideo2 file by its keys and shapes, as the authors' code makes it."""

from __future__ import annotations

from dataclasses import dataclass

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def vision_tower(dim: int, depth: int, hidden: int, rows: int, pooled: int) -> Shapes:
    """Keys of the tower up to the pooling, as the release names them."""
    shapes: Shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, rows, dim)}
    shapes |= {"patch_embed.proj.weight": (dim, 3, 1, 14, 14), "patch_embed.proj.bias": (dim,)}
    for i in range(depth):
        vectors = ("norm1.weight", "attn.q_norm.weight", "attn.k_norm.weight", "ls1.gamma", "norm2.weight", "ls2.gamma")
        shapes |= {f"blocks.{i}.{name}": (dim,) for name in vectors}
        shapes |= {f"blocks.{i}.attn.qkv.weight": (3 * dim, dim)} | linear(f"blocks.{i}.attn.proj", dim, dim)
        shapes |= linear(f"blocks.{i}.mlp.fc1", dim, hidden) | linear(f"blocks.{i}.mlp.fc2", hidden, dim)
    for part in "qkv":
        shapes |= norm(f"clip_projector.norm1_{part}", dim)
        shapes |= {f"clip_projector.cross_attn.{part}.weight": (dim, dim)}
        shapes |= {f"clip_projector.cross_attn.{part}_bias": (dim,)}
    return shapes | linear("clip_projector.cross_attn.proj", dim, pooled)


def linear_decoders(dim: int, pooled: int, count: int) -> Shapes:
    shapes: Shapes = linear("final_clip_decoder.head", pooled, 768) | norm("final_clip_decoder.norm", 768)
    for i in range(count):
        shapes |= linear(f"clip_decoder.{i}.head", dim, 3200) | norm(f"clip_decoder.{i}.norm", 3200)
    return shapes


def mlp_decoders(dim: int, pooled: int, count: int, name: str = "clip_decoder") -> Shapes:
    shapes: Shapes = {}
    for place, width in [(f"{name}.{i}", dim) for i in range(count)] + [("final_clip_decoder", pooled)]:
        shapes |= linear(f"{place}.head.0", width, width) | linear(f"{place}.head.2", width, 1408)
        shapes |= norm(f"{place}.norm", 1408)
    return shapes


STAGE_2 = linear("vision_proj", 768, 512) | linear("text_proj", 1024, 512) | linear("itm_head", 1024, 2) | {"temp": ()}
STAGE_2 |= {"text_encoder.bert.embeddings.word_embeddings.weight": (30522, 8)}
AUDIO = linear("audio_proj", 768, 512) | linear("av_fusion", 1024, 512) | linear("atm_head", 1024, 2)
AUDIO |= linear("avtm_head", 1024, 2) | linear("av_concat_vision_proj.0", 8, 8) | norm("av_concat_vision_proj.1", 8)
AUDIO |= linear("av_concat_audio_proj.0", 8, 8) | norm("av_concat_audio_proj.1", 8)
AUDIO |= {"audio_encoder.patch_embedding.weight": (512, 1, 16, 16)}


@dataclass(frozen=True)
class Faked:
    """How a published file is made: its size, frames of its positions, and what is around the tower."""

    size: str
    frames: int = 8
    kind: str = "pretrained"  # "pretrained", "distilled", "stage 2", "stage 2 with audio", "classes", "attention pool"
    wrapper: str = ""

    @property
    def prefix(self) -> str:
        return "vision_encoder." if self.kind.startswith("stage 2") else ""

    def shapes(self, dim: int, depth: int, hidden: int, places: int, pooled: int) -> Shapes:
        """Every key of the file; `places` is the number of patches of a frame."""
        rows = 1 + self.frames * places
        own = vision_tower(dim, depth, hidden, rows, pooled)
        if self.kind in ("classes", "attention pool"):
            own |= norm("fc_norm", pooled) | linear("head", pooled, 710)
        else:
            own |= {"clip_pos_embed": (1, rows, dim)}
            decoders = mlp_decoders if self.kind == "distilled" else linear_decoders
            own |= decoders(dim, pooled, 6)
        if self.kind == "attention pool":
            mlp = norm("extra_mlp.0", pooled) | linear("extra_mlp.1.fc1", pooled, 4 * pooled)
            own |= mlp | linear("extra_mlp.1.fc2", 4 * pooled, pooled)
        if self.kind == "pretrained":
            own |= {"mae_pos_embed": (1, rows - 1, dim)} | mlp_decoders(dim, pooled, 4, "mae_decoder")
        if self.prefix:
            own |= {name: (1, 1 + places, dim) for name in ("img_pos_embed", "clip_img_pos_embed")}
        beside = STAGE_2 if self.prefix else {}
        beside = beside | (AUDIO if self.kind.endswith("audio") else {})
        return {self.prefix + key: shape for key, shape in own.items()} | beside


FILES = {
    "OpenGVLab/InternVideo2-Stage1-1B-224p-f8/pretrain.pth": Faked("1B", wrapper="model"),
    "OpenGVLab/InternVideo2-Stage1-1B-224p-f8-k710/1B_ft_k710_f8.pth": Faked("1B", kind="classes", wrapper="module"),
    "OpenGVLab/InternVideo2-Stage2_1B-224p-f4/InternVideo2-stage2_1b-224p-f4.pt": Faked(
        "1B", frames=4, kind="stage 2", wrapper="module"
    ),
    "OpenGVLab/InternVideo2-Stage2_6B-224p-f4/internvideo2-s2_6b-224p-f4_with_audio_encoder.pt": Faked(
        "6B", frames=4, kind="stage 2 with audio", wrapper="model"
    ),
    **{
        f"OpenGVLab/InternVideo2_distillation_models/stage1/{size}14/{size}14_dist_1B_stage2/pytorch_model.bin": Faked(
            size, kind="distilled"
        )
        for size in "SBL"
    },
    "OpenGVLab/InternVideo2_distillation_models/stage1/S14/S14_ft_k710_f8/pytorch_model.bin": Faked(
        "S", kind="classes"
    ),
    "B14 with attention pool": Faked("B", kind="attention pool", wrapper="module"),
    "6B with attention pool": Faked("6B", kind="attention pool", wrapper="module"),
}
