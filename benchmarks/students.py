"""What each part of distillation adds, for both students, three seeds each.

    python benchmarks/students.py --sources MASTERS --unlabelled VIDEOS --out benchmarks/results/students.json

MASTERS is a folder of the masters named in benchmarks/students.yaml, VIDEOS one of any others, which get no label.
Ladder, teacher and cache come from the pipeline. The students' stems are frozen and run once, so that a hundred runs
take an hour on two cores. Epochs and defaults were chosen on validation contents (docs/lab-notes/2026-11.md); test
contents are evaluated once, at the end. Every run leaves a file, so an interrupted benchmark resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from student_figures import figures, table_of

if TYPE_CHECKING:
    import pandas as pd

    from distill.examples import Examples
    from rungwise.config import RunConfig

SEEDS = (0, 1, 2)
STUDENTS = ("mamba", "swin")
SPLITS = ("train", "validation", "test")
LABEL = {"label": 4.0, "plcc": 1.0, "rank": 1.0}
PARTS: dict[str, dict[str, float]] = {
    "scalar": {"score_target": 4.0},
    "distribution": {"soft_target": 1.0},
    "feature": {"feature": 1.0, "feature_cosine": 1.0},
    "relation": {"relation": 4.0},
    "coarse": {"coarse": 0.2},
    "coarse and fine": {"coarse": 0.2, "fine": 2.0},
}
ALL = {name: weight for part in PARTS.values() for name, weight in part.items()}
CHOSEN = LABEL | PARTS["distribution"] | PARTS["feature"] | PARTS["relation"]  # by validation contents
LOSSES = (
    {"label only": LABEL}
    | {f"+ {name}": LABEL | part for name, part in PARTS.items()}
    | {"all": LABEL | ALL}
    | {"distribution, feature, relation": CHOSEN}
)
COARSE_TO_FINE: dict[str, Any] = {"num_groups": 3, "temperature": 0.1, "margin": 0.5}
OLD, NEW = ("h264", "hevc"), ("av1", "vp9")
PROMPTS = 8


@dataclass(frozen=True)
class Job:
    """One training run. `start` is another job's name; `codecs` those trained on, empty: all."""

    name: str
    student: str
    seed: int
    losses: Mapping[str, float]
    start: str = ""
    codecs: tuple[str, ...] = ()
    prompts: bool = False
    unlabelled: bool = False
    epochs: int = 0
    size: str = "nano"


def jobs(epochs: int) -> list[list[Job]]:
    """All runs in rounds; a round starts from what earlier ones left."""
    rounds: list[list[Job]] = [[], []]
    for seed in SEEDS:
        for student in STUDENTS:
            for name, losses in LOSSES.items():
                rounds[0].append(Job(name, student, seed, losses))
            rounds[0].append(Job("all, unlabelled too", student, seed, LABEL | ALL, unlabelled=True))
            rounds[0].append(Job("contrast", student, seed, {"contrast": 1.0}, epochs=max(1, epochs // 2)))
            rounds[0].append(Job("small: distribution, feature, relation", student, seed, CHOSEN, size="small"))
            rounds[0].append(Job("small: label only", student, seed, LABEL, size="small"))
            rounds[0].append(Job("no tuning", student, seed, LABEL | ALL, codecs=OLD))
            half = max(1, epochs // 2)
            rounds[1].append(Job("all, pretrained", student, seed, LABEL | ALL, start="contrast"))
            moved: dict[str, Any] = {"losses": LABEL | ALL, "start": "no tuning", "codecs": NEW, "epochs": half}
            rounds[1].append(Job("StylePrompt tuning", student, seed, **moved, prompts=True))
            rounds[1].append(Job("full tuning", student, seed, **moved))
    return rounds


def train_job(job: Job, folder: Path, config_path: Path, epochs: int) -> None:
    """Train one student and keep its scores of validation and test clips."""
    from distill.model import Upper
    from distill.predict import predict
    from distill.students import load_state
    from distill.train import fit
    from rungwise.artifact import write_json
    from rungwise.config import Augment, BitrateGroups, load_config
    from rungwise.score.contract import Scale
    from student.models import STUDENTS as MODELS
    from student.models import load_imagenet, student_settings

    torch.set_num_threads(1)
    own = folder / f"{job.name}, {job.student}, {job.seed}"
    if (own / "scores.json").is_file():
        return
    own.mkdir(parents=True, exist_ok=True)
    config = load_config(config_path)
    train, validation, test = (load_examples(folder / f"{split}.npz") for split in SPLITS)
    chosen = [
        row
        for row, (codec, score) in enumerate(zip(train.codecs, train.scores, strict=True))
        if (not np.isnan(score) or job.unlabelled) and (not job.codecs or codec in job.codecs)
    ]
    prompts = PROMPTS if job.prompts else 0
    changes = {"model": job.student, "size": job.size, "stem": "frozen", "prompts": prompts}
    section = config.student.model_copy(update=changes)
    settings = student_settings(section, config.views.recipe) | {
        "num_levels": config.teacher.num_levels, "minimum": 0.0, "maximum": 100.0,
    }  # fmt: skip
    torch.manual_seed(job.seed)
    model = MODELS[job.student](**settings)
    load_imagenet(model)
    if job.start:
        started = folder / f"{job.start}, {job.student}, {job.seed}" / "student.pt"
        load_state(model, torch.load(started, weights_only=True), str(started))
    if job.prompts:
        model.tune_prompts()
    fitted: Any = model if "contrast" in job.losses else Upper(model, job.student)
    if "contrast" in job.losses:  # half scale needs the pixels
        train = replace(train, inputs=np.load(folder / "pixels.npy", mmap_mode="r"), targets={})
    training = config.student.training.model_copy(
        update={
            "epochs": job.epochs or epochs,
            "augment": Augment(sample_frames=2, sample_grid=None),
            "validate_every": 2,
            "losses": config.student.training.losses.model_validate(dict(job.losses)),
        }
    )
    if "contrast" in job.losses:
        training = training.model_copy(update={"clips_per_content": 2, "contents_per_batch": 16})
    history, state = fit(
        fitted,
        take(train, chosen),
        None if "contrast" in job.losses else validation,
        training,
        Scale(kind="vmaf", polarity="higher_is_better", minimum=0, maximum=100),
        seed=job.seed,
        scratch=own / "scratch",
        name=f"{job.name}, {job.student}, {job.seed}",
        coarse_to_fine=BitrateGroups.model_validate(COARSE_TO_FINE),
    )
    fitted.load_state_dict(state, strict=True)
    torch.save(model.state_dict(), own / "student.pt")
    fitted = Upper(model, job.student)
    tuned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    scores = {split: [float(score) for score in predict(fitted, part.inputs[:, 0])]
              for split, part in (("validation", validation), ("test", test))}  # fmt: skip
    facts = {"job": asdict(job), "history": history, "tuned_share": tuned / sum(p.numel() for p in model.parameters())}
    write_json(own / "scores.json", facts | scores)


def take(examples: Examples, rows: list[int]) -> Examples:
    """Some of the rows; inputs stay on disk."""
    return replace(
        examples,
        inputs=examples.inputs[rows],
        scores=examples.scores[rows],
        contents=tuple(examples.contents[row] for row in rows),
        codecs=tuple(examples.codecs[row] for row in rows),
        classes=examples.classes[rows],
        groups=examples.groups[rows],
        targets={name: values[rows] for name, values in examples.targets.items()},
    )


def save_examples(path: Path, examples: Examples) -> None:
    """What a worker needs, but for the stem's output, which lies beside it."""
    facts = {
        name: getattr(examples, name)
        for name in ("scores", "contents", "codecs", "classes", "groups", "stream", "stream_weights")
    }
    targets = {f"target {name}": values for name, values in examples.targets.items()}
    np.savez(path, patch_px=examples.patch_px, **facts, **targets)  # type: ignore[arg-type]


def load_examples(path: Path) -> Examples:
    """What `save_examples` left."""
    from distill.examples import Examples

    facts = np.load(path)
    return Examples(
        inputs=np.load(path.with_suffix(".npy"), mmap_mode="r"),
        scores=facts["scores"],
        contents=tuple(str(content) for content in facts["contents"]),
        codecs=tuple(str(codec) for codec in facts["codecs"]),
        classes=facts["classes"],
        groups=facts["groups"],
        patch_px=int(facts["patch_px"]),
        frames_each=1,
        stream=facts["stream"],
        stream_weights=facts["stream_weights"],
        targets={name.removeprefix("target "): facts[name] for name in facts.files if name.startswith("target ")},
    )


def prepare_data(config_path: Path, runs: Path, epochs: int) -> tuple[Path, pd.DataFrame]:
    """Ladder, teacher, cache and the frozen stem's output; returns the folder of jobs and the table with `teacher`."""
    from distill.data import read_data
    from distill.frozen import keep_frozen
    from distill.pipeline import run
    from distill.view_store import read_view_lists
    from rungwise.artifact import sha256_json
    from rungwise.config import load_config
    from student.models import STUDENTS as MODELS
    from student.models import load_imagenet, student_settings
    from teacher.cache import read_cache

    config = load_config(config_path)
    outcome = run(config, runs, until="cache")
    data = read_data(config, outcome.artifacts["ladder"], outcome.artifacts["views"])
    targets = read_cache(outcome.artifacts["cache"], list(data.table["clip"]), read_view_lists(data.views))
    student = config.student.model_dump(mode="json") | {"epochs": epochs, "cache": outcome.artifacts["cache"].id}
    folder = runs / "students" / sha256_json(student)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    section = config.student.model_copy(update={"model": "mamba", "size": "nano", "stem": "frozen"})
    stem = MODELS["mamba"](**student_settings(section, config.views.recipe), num_levels=5, minimum=0.0, maximum=100.0)
    load_imagenet(stem)
    frozen_outputs = keep_frozen(stem, "mamba", data, runs, device="cpu", precision="fp32")
    for split in SPLITS:
        examples = data.examples(
            split, targets=targets, labeled=split != "train", num_groups=COARSE_TO_FINE["num_groups"]
        )
        if split != "train":
            examples = replace(examples, inputs=examples.inputs[:, :1], targets={})
        if split == "train" and not (folder / "pixels.npy").is_file():
            np.save(folder / "pixels.npy", examples.inputs)
        np.save(folder / f"{split}.npy", frozen_outputs[data.rows(split, labeled=split != "train")])
        save_examples(folder / f"{split}.npz", examples)
    return folder, data.table.assign(teacher=targets["scores"][:, 0].astype(float))


def summarize(folder: Path, table: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """One row a student and variant, after those of the teacher and of log-bitrate; moved students apart."""
    finished = [json.loads(path.read_text()) for path in sorted(folder.glob("*/scores.json"))]
    everything = table[table["split"] == split].reset_index(drop=True)
    rows = []
    for moved in (False, True):
        mask = everything["codec"].isin(NEW if moved else (*OLD, *NEW)).to_numpy()
        part = everything[mask].reset_index(drop=True)
        simple = {"teacher": part["teacher"], "log-bitrate": np.log(part["bitrate_kbps"])}
        scores_by_variant = {("", name): [np.asarray(values, float)] for name, values in simple.items()}
        shares: dict[tuple[str, str], float] = {}
        for facts in finished:
            job = facts["job"]
            if bool(job["codecs"]) == moved and job["name"] != "contrast":
                scores_by_variant.setdefault((job["student"], job["name"]), []).append(np.asarray(facts[split])[mask])
                shares[job["student"], job["name"]] = facts["tuned_share"]
        for (student, name), scores in scores_by_variant.items():
            size = "small: " if name.startswith("small: ") else ""
            against = scores_by_variant.get((student, "no tuning" if moved else f"{size}label only"))
            row = {"codecs": "av1, vp9" if moved else "all", "student": student, "variant": name, "seeds": len(scores)}
            row |= {"tuned_share": shares.get((student, name))} | figures(part, scores, against if student else None)
            rows.append(row)
    order = [
        *LOSSES,
        "small: label only",
        "small: distribution, feature, relation",
        "all, pretrained",
        "all, unlabelled too",
        "no tuning",
        "StylePrompt tuning",
        "full tuning",
    ]

    def place(row: dict[str, Any]) -> tuple[bool, str, int]:
        return row["codecs"] != "all", row["student"], (*order, row["variant"]).index(row["variant"])

    return sorted(rows, key=place)


def costs(config: RunConfig) -> list[dict[str, Any]]:
    """Weights and multiply-adds for one clip of every student, and of InternVideo2-1B as its config has it."""
    from rungwise.config import load_config
    from student.models import STUDENTS as MODELS
    from student.models import cost, student_settings
    from teacher.layers import count_flops
    from teacher.models import TEACHERS

    span: dict[str, Any] = {"minimum": 0.0, "maximum": 100.0}
    rows: list[dict[str, Any]] = []
    for student, size, stages in itertools.product(STUDENTS, ("nano", "small"), (3, 5)):
        section = config.student.model_copy(update={"model": student, "size": size, "stem_stages": stages})
        model = MODELS[student](**student_settings(section, config.views.recipe), num_levels=5, **span)
        parts = cost(model, config.views.recipe)
        sums = {"weights": sum(part.weights for part in parts), "macs": sum(part.macs for part in parts)}
        rows.append({"model": student, "size": size, "stem_stages": stages} | sums)
    big = load_config(Path(__file__).parents[1] / "configs" / "internvideo2_1b.yaml")
    kind, recipe = TEACHERS[big.teacher.model](), big.views.recipe
    with torch.device("meta"):  # shapes alone
        teacher = kind.build(**kind.settings(big.teacher, recipe), **span)
        frames = torch.zeros((1, recipe.num_frames, recipe.size_px, recipe.size_px, 3), dtype=torch.uint8)
        macs = count_flops(lambda: teacher(frames)) // 2
    rows.append({"model": "internvideo2-1b", "weights": sum(p.numel() for p in teacher.parameters()), "macs": macs})
    return rows


def main() -> None:
    """Run every job that is not done, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sources", type=Path, required=True, help="folder of masters")
    parser.add_argument("--unlabelled", type=Path, help="folder of videos without labels")
    parser.add_argument("--runs", type=Path, default=Path("runs_students"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="jobs whose name holds this")
    parser.add_argument("--validation", action="store_true", help="table of validation contents, to choose by")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from rungwise.artifact import write_json, write_text
    from rungwise.config import load_config
    from rungwise.progress import note, track

    values = yaml.safe_load((Path(__file__).parent / "students.yaml").read_text())
    values["sources"]["folder"] = str(arguments.sources)
    if arguments.unlabelled:
        values["sources"]["unlabelled"] = str(arguments.unlabelled)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    config_path = arguments.runs / "students.yaml"
    config_path.write_text(yaml.safe_dump(values))
    folder, table = prepare_data(config_path, arguments.runs, arguments.epochs)
    for number, batch in enumerate(jobs(arguments.epochs)):
        left = [job for job in batch if arguments.only in job.name and (arguments.unlabelled or not job.unlabelled)]
        with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
            train = partial(train_job, folder=folder, config_path=config_path, epochs=arguments.epochs)
            for _ in track(pool.map(train, left), f"round {number + 1}", total=len(left)):
                pass
    split = "validation" if arguments.validation else "test"
    facts = {
        "command": f"python {sys.argv[0]} --sources MASTERS --unlabelled VIDEOS --epochs {arguments.epochs}",
        "split": split,
        "seeds": len(SEEDS),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "costs": costs(load_config(config_path)),
    }
    rows = summarize(folder, table, split)
    note(f"{split} contents; mean of {len(SEEDS)} seeds [95 % interval over contents]")
    print(table_of(rows), end="")
    if arguments.out:
        write_json(arguments.out, facts | {"rows": rows})
        write_text(arguments.out.with_suffix(".txt"), table_of(rows))


if __name__ == "__main__":
    main()
