"""The files that InternVideo2's authors publish: where each lies, and what it holds besides the vision tower."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

# Hub id -> files of it that hold a vision tower. Distilled ones come tuned to action classes too, in sibling folders.
RELEASES = {
    "OpenGVLab/InternVideo2-Stage1-1B-224p-f8": ("pretrain.pth",),
    "OpenGVLab/InternVideo2-Stage1-1B-224p-f8-k710": ("1B_ft_k710_f8.pth",),
    "OpenGVLab/InternVideo2-Stage2_1B-224p-f4": ("InternVideo2-stage2_1b-224p-f4.pt",),
    "OpenGVLab/InternVideo2-Stage2_6B-224p-f4": ("internvideo2-s2_6b-224p-f4_with_audio_encoder.pt",),
    "OpenGVLab/InternVideo2_distillation_models": tuple(
        f"stage1/{size}/{size}_dist_1B_stage2/pytorch_model.bin" for size in ("S14", "B14", "L14")
    ),
}
PREFIXES = ("vision_encoder.", "backbone.", "encoder.")
# Beginnings of keys that are read over: decoders and positions of the pre-training, the other towers of stage 2.
KNOWN_EXTRAS = (
    "clip_decoder.",
    "final_clip_decoder.",
    "clip_pos_embed",
    "clip_img_pos_embed",
    "img_pos_embed",
    "mae_",
    "text_encoder.",
    "audio_encoder.",
    "vision_proj.",
    "text_proj.",
    "audio_proj.",
    "av_concat_vision_proj.",
    "av_concat_audio_proj.",
    "av_fusion.",
    "itm_head.",
    "atm_head.",
    "avtm_head.",
    "vision_align.",
    "temp",
)
# Files of the pre-training end at the pooling; the norm after it starts as the identity.
MAY_LACK = ("fc_norm.",)
EXTRA_MLP = "extra_mlp."  # keys of attention-pool files, which have a residual MLP after the pooling


def without_prefix(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The state dict without the prefix of the tower, and the prefix; keys outside it keep their names."""
    for prefix in PREFIXES:
        if f"{prefix}patch_embed.proj.weight" in state:
            return {key.removeprefix(prefix): value for key, value in state.items()}, prefix
    return dict(state), ""


def has_extra_mlp(state: Mapping[str, Tensor]) -> bool:
    """Whether the pooling of this checkpoint is followed by a residual MLP."""
    return any(key.startswith(EXTRA_MLP) for key in without_prefix(state)[0])


def download_advice(repo: str, name: str = "") -> str:
    """What to do where the hub can't be reached."""
    names = [name] if name else RELEASES.get(repo, ("its weight file",))
    return (
        f"download {' or '.join(names)} from https://huggingface.co/{repo} (a gated one asks you to log in) and give"
        " the file's path instead"
    )
