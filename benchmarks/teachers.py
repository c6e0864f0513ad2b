"""Every kind of teacher at tiny size, from labels to a verified cache: teach -> cache -> verify.

    python benchmarks/teachers.py --sources DIR_OF_MASTERS --out benchmarks/results/teachers_tiny.json

No hub is needed: CLIP is a tiny one of random weights with a tokenizer of letters, InternVideo2 has the shape of its
tests. This checks the pipeline and shows the cost of each step; only EfficientNet-Lite0 and CONVIQT's CNN start from
real weights. Correlations are of the validation contents, beside log-bitrate on the same clips.
"""

from __future__ import annotations

import argparse
import os
import string
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

LADDER = {
    "label": "vmaf_v0.6.1",
    "extra_labels": [],
    "rungs": [
        {"codec": "h264", "preset": "veryfast", "scales": [1.0], "crf": [24, 40]},
        {"codec": "h264", "preset": "veryfast", "scales": [0.5], "crf": [32]},
        {"codec": "av1", "preset": "12", "scales": [1.0], "crf": [50]},
    ],
}
VIEWS = {"per_clip": 2, "recipe": {"num_frames": 4, "frame_choice": "difference", "grid": 4, "patch_px": 28}}
LOSSES = {"label": 0.0, "plcc": 0.0, "rank": 0.0, "vector": 0.0, "contrast": 0.0, "soft_target": 0.0, "feature": 0.0}
LABELS = {"label": 4.0, "plcc": 1.0, "rank": 0.3}
PLAIN = {"zero_stage": None, "gradient_checkpointing": False, "keep_frozen": False}
TINY_INTERNVIDEO2 = {
    "embed_dim": 96,
    "depth": 3,
    "num_heads": 6,
    "mlp_ratio": 48 / 11,
    "attn_pool_num_heads": 6,
    "clip_embed_dim": 48,
}
# Module whose output is kept beside the pooled feature.
LAYERS = {
    "efficientnet_lite0": "head.1",
    "internvideo2": "backbone.blocks.1",
    "q_clip": "images.tower.vision_model.encoder.layers.1",
    "clipvqa": "aggregation.0",
    "conviqt": "gru",
}


def teacher_section(model: str, clip_folder: Path, *, epochs: int, **changes: Any) -> dict[str, Any]:
    """A tiny teacher's section of a run's YAML; `clip_folder` is a folder from `write_tiny_clip`."""
    weights: dict[str, dict[str, float]] = {"conviqt": {"contrast": 1.0}, "clipvqa": {"vector": 1.0}}
    own: dict[str, dict[str, Any]] = {
        "efficientnet_lite0": {"num_levels": 5, "feature_dim": 64, "frozen_stages": 5},
        "internvideo2": {
            "num_levels": 5,
            "size": TINY_INTERNVIDEO2,
            "checkpoint": None,
            "gelu": "tanh",
            "tune": "internvqa",
        },
        "q_clip": {
            "num_levels": 5,
            "clip": str(clip_folder),
            "vision": None,
            "vision_checkpoint": None,
            "adapter": "release",
            "adapted_layers": 2,
        },
        "clipvqa": {
            "num_levels": 6,
            "clip": str(clip_folder),
            "frozen_blocks": 1,
            "aggregation_layers": 1,
            "cross_attention_layers": 2,
        },
        "conviqt": {
            "num_levels": 5,
            "backbone": "tf_efficientnet_lite0",
            "checkpoint": "imagenet_lite0",
            "gru_dim": 64,
            "contrast_dim": 32,
        },
    }
    training = {
        "epochs": epochs,
        "augment": {"sample_frames": 4, "sample_grid": 4},
        "validate_every": 1,
        "contents_per_batch": 4,
        "clips_per_content": 4,
        "mix_codecs": False,
        "batches_per_step": 1,
        "learning_rate": 1e-3,
        "backbone_learning_rate": 3e-4,
        "weight_decay": 0.02,
        "ema_decay": 0.9,
        "losses": LOSSES | weights.get(model, LABELS),
    }
    section = {"model": model, "precision": "fp32", "execution": PLAIN, "training": training} | own[model]
    return section | changes


def run_config(base: dict[str, Any], model: str, clip_folder: Path, *, epochs: int, **changes: Any) -> dict[str, Any]:
    """`base` (a run's YAML) with small stages and one tiny teacher."""
    teacher = teacher_section(model, clip_folder, epochs=epochs, **changes)
    cache = {"clips_per_shard": 8, "clips_per_batch": 4, "feature_dtype": "float16", "layers": []}
    return base | {"name": model, "views": VIEWS, "teacher": teacher, "cache": cache}


def write_tiny_clip(
    folder: Path, *, vision_width: int = 32, joint_width: int = 24, patch_px: int = 8, num_layers: int = 3
) -> Path:
    """A tiny CLIP of random weights as a transformers folder, with a tokenizer that knows letters."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    tokens = ["<|startoftext|>", *string.ascii_lowercase, *(f"{c}</w>" for c in string.ascii_lowercase)]
    tokens.append("<|endoftext|>")
    layers = {"num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": num_layers}
    ids = {"bos_token_id": 0, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    text = {"hidden_size": 48, "vocab_size": len(tokens), "max_position_embeddings": 48, **ids, **layers}
    vision = {"hidden_size": vision_width, "image_size": 2 * patch_px, "patch_size": patch_px, **layers}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=joint_width))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, so that no wrong use of them goes unseen
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    return folder


def teach_cache_verify(config: Path, runs: Path) -> dict[str, Any]:
    """One teacher's way, and what it cost."""
    from distill.cache_audit import verify_cache
    from distill.data import read_data
    from distill.pipeline import run
    from distill.view_store import read_view_lists
    from rungwise.artifact import read_facts
    from rungwise.config import load_config
    from rungwise.metrics.evaluate import evaluate_predictors
    from rungwise.metrics.evaluation_result import format_interval
    from teacher.cache import read_cache

    settings = load_config(config)
    outcome = run(settings, runs, until="cache")
    cache = outcome.artifacts["cache"]
    rows, tolerance = verify_cache(cache.path, sample=32, seed=0, tolerance=None, device="cpu")
    data = read_data(settings, outcome.artifacts["ladder"], outcome.artifacts["views"])
    targets = read_cache(cache, list(data.table["clip"]), read_view_lists(data.views))
    table = data.table.assign(teacher=targets["scores"][:, 0].astype(float))
    validation = table[table["split"] == "validation"].reset_index(drop=True)
    results = {result.predictor: result for result in evaluate_predictors(validation, ["teacher"]).predictors}
    return {
        "teacher": settings.teacher.model,
        "contents": table["content"].nunique(),
        "encodes": len(table),
        "validation_encodes": len(validation),
        "validation_srcc": format_interval(results["teacher"].srcc, "srcc"),
        "log_bitrate_srcc": format_interval(results["log-bitrate"].srcc, "srcc"),
        "teach_seconds": outcome.artifacts["teach"].seconds,
        "cache_seconds": cache.seconds,
        "cache_clips_per_second": len(table) / cache.seconds,
        "bytes_per_clip": read_facts(cache)["bytes_per_clip"],
        "verified": len(rows),
        "largest_deviation": max(value for row in rows for name, value in row.items() if name != "clip"),
        "tolerance": tolerance,
    }


def main() -> None:
    """Run every teacher and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sources", type=Path, required=True, help="folder of masters")
    parser.add_argument("--runs", type=Path, default=Path("runs_teachers"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from rungwise.artifact import write_json

    base = yaml.safe_load((Path(__file__).parents[1] / "tests" / "distill" / "small.yaml").read_text())
    base |= {"sources": {"folder": str(arguments.sources)}, "ladder": LADDER}
    base["splits"] = {"validation": 6, "test": 6, "seed": 0}
    arguments.runs.mkdir(parents=True, exist_ok=True)
    clip = write_tiny_clip(arguments.runs / "tiny_clip")
    rows = []
    for model, layer in LAYERS.items():
        config = run_config(base, model, clip, epochs=arguments.epochs)
        config["cache"]["layers"] = [layer]
        path = arguments.runs / f"{model}.yaml"
        path.write_text(yaml.safe_dump(config))
        rows.append(teach_cache_verify(path, arguments.runs))
    columns = list(rows[0])
    widths = {name: max(len(name), *(len(_text(row[name])) for row in rows)) for name in columns}
    print("  ".join(name.ljust(widths[name]) for name in columns))
    for row in rows:
        print("  ".join(_text(row[name]).ljust(widths[name]) for name in columns))
    if arguments.out:
        facts = {
            "command": f"{sys.argv[0]} --sources DIR --epochs {arguments.epochs}",
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        }
        write_json(arguments.out, facts | {"rows": rows})


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
