"""The `export` stage: one ONNX file a precision, each through its gates, with model card and figures beside.

Looks at train contents (calibration of int8) and validation contents (gates, intervals), never at test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import nn

from distill.checkpoint import load_checkpoint
from distill.data import Data, read_data
from distill.intervals import calibrate
from distill.predict import predict
from distill.stage import Artifacts, Inputs
from distill.students import HELD_OUT
from rungwise.artifact import SCRATCH, Artifact, read_facts, write_json, write_text
from rungwise.config import RunConfig
from rungwise.metrics.evaluate import evaluate_predictors
from rungwise.metrics.pairs import PairRule
from rungwise.progress import note
from rungwise.score.contract import BitstreamContract, Calibration, Contract, SetMap
from rungwise.score.scorer import Scorer
from rungwise.score.views import make_views, read_views
from student.card import Facts, error_table, write_card
from student.export import PARITY_SHARE, check_operators, parity, seal
from student.gates import PAIR_GAP_SHARE, Gate, Labeled, loss_gates, rerun_gate, spread
from student.quality_student import QualityStudent
from student.targets import EXPORT_TARGETS, REFERENCE, Attempt, CalibrationInputs, Source
from student.trace import trace, write_graph
from teacher.shard_files import StoredRows

PARITY_CLIPS: Final = 8
PARITY_SIZES: Final = (0.5, 1.0, 1.5)  # of the clip's display height
CALIBRATION_VIEWS: Final = 200


class Candidate(NamedTuple):
    """A graph on its way: scores_N and hybrid scores on validation clips, its gates so far, operators left in
    float."""

    graph: onnx.ModelProto
    scores: NDArray[np.float32]
    fused: NDArray[np.float32] | None
    gates: list[Gate]
    left_in_float: tuple[str, ...]


def export_params(config: RunConfig, artifacts: Artifacts) -> dict[str, Any]:
    """What of the config changes the files."""
    return config.export.model_dump(mode="json") | {"num_resamples": config.evaluate.num_resamples}


def build_export(folder: Path, config: RunConfig, inputs: Inputs) -> dict[str, Any]:
    """Write the files and check on validation clips that they score as torch does.

    A refused fp16 or int8 is left out and named in gates.json and by `export_failures`.

    Raises:
        ValueError: the fp32 file fails a gate.
    """
    data = read_data(config, inputs["dataset"], inputs["views"])
    return _Export(config, data, inputs["student"], folder).build()


def export_failures(export: Artifact) -> dict[str, str]:
    """ "export int8" -> why it was refused."""
    return {f"export {precision}": reason for precision, reason in read_facts(export)["refused"].items()}


def calibrate_rows(
    data: Data, rows: NDArray[np.int64], scores: NDArray[np.float32], sets: tuple[SetMap, ...], coverage: float
) -> Calibration:
    """The interval around these rows' exported scores; labels of several sets are brought to the scores' scale."""
    contents = list(data.table["content"].iloc[rows])
    return calibrate(scores, data.shared_labels(rows, sets), contents, coverage, data.scale)


class _Export:
    """One build of the stage: what all precisions have in common."""

    def __init__(self, config: RunConfig, data: Data, student: Artifact, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        model, contract, _ = load_checkpoint(student.path / "student.safetensors")
        assert isinstance(model, QualityStudent)
        self.model = model
        self.contract = contract.model_copy(
            update={
                "golden": None,
                "calibration": None,
                "opset": config.export.opset,
                "inputs_sha256": dict(student.key.inputs) | {"student": student.content_sha256},
            }
        )
        self.rows = data.rows("validation")
        self.validation = Labeled(
            StoredRows(data.pixels, self.rows).first_views,
            data.table["score"].to_numpy(float)[self.rows],
            data.table["content"].to_numpy(str)[self.rows],
            data.scale,
        )
        self.gates: list[Gate] = []
        self.refused: dict[str, str] = {}
        self.contracts: dict[str, Contract] = {}
        self.scores: dict[str, NDArray[np.float32]] = {}
        self.fused: dict[str, NDArray[np.float32]] = {}
        self.terms = data.terms(self.rows) if self.model.is_hybrid else None
        # A clip without a readable QP gets the pixel-only score, as in the scorer.
        self.coded = np.ones(len(self.rows), dtype=np.bool_)
        if self.terms is not None:
            self.coded &= ~np.isnan(self.terms).any(1)
        # After a refit on validation clips their errors mean nothing: scores by students before it count.
        path = student.path / HELD_OUT
        self.held_out: dict[str, NDArray[Any]] = load_file(path) if path.is_file() else {}

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The splits that the student was trained on."""
        return ("train", "validation") if self.held_out else ("train",)

    def build(self) -> dict[str, Any]:
        """Fill the folder; facts for the manifest."""
        graph = trace(self.model, self.contract.view, opset=self.config.export.opset)
        self.finish(REFERENCE, self.reference(graph))
        for precision in [
            name for name in EXPORT_TARGETS if name in self.config.export.precisions and name != REFERENCE
        ]:
            try:
                self.finish(precision, self.best_attempt(precision, graph))
            except ValueError as error:
                self.refuse(precision, str(error))
        left = {name: list(contract.left_in_float) for name, contract in self.contracts.items()}
        gates = [gate.as_dict() for gate in self.gates]
        write_json(self.folder / "gates.json", {"gates": gates, "refused": self.refused, "left_in_float": left})
        write_text(self.folder / "card.md", self.card())
        return {"refused": self.refused}

    def score_validation(
        self, graph: onnx.ModelProto, precision: str
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Scores_N of validation clips by a graph that is no file yet; hybrid scores too where it takes bitstreams."""
        terms = None if self.terms is None else np.nan_to_num(self.terms)
        path = self.folder / SCRATCH / "candidate.onnx"
        write_graph(graph, self.contract.model_copy(update={"precision": precision}), path)
        scorer = Scorer(path, check=False)
        outputs = ["score"] if self.terms is None else ["score", "fused"]
        outputs_by_clip = [
            scorer.run(outputs, self.validation.pixels[[i]], None if terms is None else terms[[i]])
            for i in range(len(self.rows))
        ]
        scores, *fused = (np.concatenate(values) for values in zip(*outputs_by_clip, strict=True))
        return scores, np.where(self.coded, fused[0], scores) if fused else None

    def reference(self, graph: onnx.ModelProto) -> Candidate:
        """The fp32 graph, whose scores must equal torch's at several display heights."""
        check_operators(graph, REFERENCE)
        scores, fused = self.score_validation(graph, REFERENCE)
        pixels, heights = self.decoded()
        scorer = Scorer(self.folder / SCRATCH / "candidate.onnx", check=False)
        deviation = parity(scorer, predict(self.model, pixels), pixels)
        shown = ", ".join(map(str, sorted(heights)))
        batches = f"batches of 1 and {len(pixels)}"
        detail = f"fraction of the scale, {len(pixels)} views decoded at display heights {shown}, {batches}"
        return Candidate(
            graph, scores, fused, [Gate(REFERENCE, "parity with torch", deviation, PARITY_SHARE, detail)], ()
        )

    def decoded(self) -> tuple[NDArray[np.uint8], set[int]]:
        """Views_NTSSC of validation clips, decoded again at several display heights; and the heights."""
        views, heights = [], set()
        for row in self.rows[spread(len(self.rows), PARITY_CLIPS)]:
            clip = self.data.table.iloc[row]
            for size in PARITY_SIZES:
                height = max(2, round(int(clip["display_height"]) * size / 2) * 2)
                path = Path(clip["path"])
                views.append(read_views(path, make_views(path, self.contract.view, display_height=height))[0])
                heights.add(height)
        return np.stack(views), heights

    def best_attempt(self, precision: str, graph: onnx.ModelProto) -> Candidate:
        """The target's first graph that passes its gates, or the last that was tried."""
        source = Source(graph, self.contract, self.calibration_inputs, self.folder / SCRATCH)
        for attempt in EXPORT_TARGETS[precision].attempts(source):
            candidate = self.measured(precision, attempt)
            if all(gate.passed for gate in candidate.gates):
                break
        return candidate

    def calibration_inputs(self) -> CalibrationInputs:
        """Train views drawn by the config's seed."""
        rows = self.data.rows("train", labeled=False)
        rows = np.sort(np.random.default_rng(self.config.seed).permutation(rows)[:CALIBRATION_VIEWS])
        note(f"export: calibrating on {len(rows)} train views")
        terms = None if self.terms is None else np.nan_to_num(self.data.terms(rows))
        return CalibrationInputs(np.array(self.data.pixels[rows, 0]), terms)

    def measured(self, precision: str, attempt: Attempt) -> Candidate:
        """A graph with its gates: what it loses against the fp32 graph."""
        scores, fused = self.score_validation(attempt.graph, precision)
        gates = loss_gates(precision, scores, self.scores[REFERENCE], self.validation)
        if fused is not None:
            lost = loss_gates(precision, fused, self.fused[REFERENCE], self.validation)
            gates += [replace(gate, name=f"{gate.name}, hybrid") for gate in lost]
        return Candidate(attempt.graph, scores, fused, gates, attempt.left_in_float)

    def finish(self, precision: str, candidate: Candidate) -> None:
        """Write the file and re-run it from disk, or refuse it.

        Raises:
            ValueError: a gate failed; it is named with its figure and budget.
        """
        path = self.folder / EXPORT_TARGETS[precision].file
        self.gates += candidate.gates
        for gate in candidate.gates:
            note(f"export {gate}")
        if candidate.left_in_float:
            note(f"export {precision}: left in float: {', '.join(candidate.left_in_float)}")
        _refuse(candidate.gates)
        update: dict[str, Any] = {
            "precision": precision,
            "left_in_float": candidate.left_in_float,
            "calibration": self.calibration("scores", candidate.scores),
        }
        if candidate.fused is not None:
            rows = self.data.rows(*self.trained_on)
            rows = rows[~np.isnan(self.data.stream[rows]).any(1)]
            facts = self.data.stream[rows]
            update["stream"] = BitstreamContract(
                codecs=tuple(sorted(set(self.data.table["codec"].iloc[rows]))),
                low=tuple(facts.min(0)),
                high=tuple(facts.max(0)),
                calibration=self.calibration("fused", candidate.fused),
            )
        contract = self.contract.model_copy(update=update)
        gate = rerun_gate(seal(candidate.graph, contract, path), candidate.scores, self.validation)
        self.gates.append(gate)
        note(f"export {gate}")
        _refuse([gate])
        self.contracts[path.name] = Scorer(path).contract
        self.scores[precision] = candidate.scores
        if candidate.fused is not None:
            self.fused[precision] = candidate.fused

    def calibration(self, name: str, scores: NDArray[np.float32]) -> Calibration:
        """The interval around scores or hybrid scores of held-out clips: those that `distill` kept by this name, else
        the candidate's `scores` of validation clips.

        Where there are encodes of whole masters, of those alone: variants, photographs and drawn scenes err otherwise
        than the footage that scores are for.
        """
        rows, scores = (self.held_out["rows"], self.held_out[name]) if self.held_out else (self.rows, scores)
        among = np.ones(len(rows), bool) if name == "scores" else ~np.isnan(self.data.terms(rows)).any(1)
        table = self.data.table.iloc[rows]
        if "origin" in table:
            whole = (table["origin"] == "master").to_numpy() & among
            among = whole if whole.any() else among
        coverage = self.config.export.interval_coverage
        return calibrate_rows(self.data, rows[among], scores[among], self.contract.sets, coverage)

    def refuse(self, precision: str, reason: str) -> None:
        """Leave a precision out; the run goes on."""
        (self.folder / EXPORT_TARGETS[precision].file).unlink(missing_ok=True)
        self.refused[precision] = reason.removeprefix("export: ")
        note(f"export {precision}: refused: {self.refused[precision]}")

    def card(self) -> str:
        """The model card."""
        table = self.data.table.iloc[self.rows].reset_index(drop=True)
        columns = {precision: scores for precision, scores in self.scores.items()}
        columns |= {f"{precision}, hybrid": scores for precision, scores in self.fused.items()}
        if self.held_out:
            names = {"scores": "before retraining", "fused": "before retraining, hybrid"}
            own = pd.Index(self.held_out["rows"]).get_indexer(self.rows)
            columns = {names[name]: self.held_out[name][own] for name in names if name in self.held_out}
        for name, scores in columns.items():
            table[name] = scores.astype(float)
        result = evaluate_predictors(
            table,
            list(columns),
            num_resamples=self.config.evaluate.num_resamples,
            pair_rule=PairRule("label-range", PAIR_GAP_SHARE),
        )
        whole = self.data.table
        splits = {split: whole.iloc[self.data.rows(split)] for split in ("train", "validation")}
        train = whole.iloc[self.data.rows(*self.trained_on)]
        facts = Facts(
            name=self.config.name,
            weights=_num_weights(self.model),
            contents={split: part["content"].nunique() for split, part in splits.items()},
            clips={split: len(part) for split, part in splits.items()},
            codecs=list(train["codec"]),
            display_heights=[int(height) for height in train["display_height"]],
            label_range=(float(train["score"].min()), float(train["score"].max())),
            bytes={name: (self.folder / name).stat().st_size for name in self.contracts},
            gates=self.gates,
            refused=self.refused,
            refitted=bool(self.held_out),
            errors=error_table(table, next((name for name in columns if "hybrid" in name), next(iter(columns)))),
        )
        return write_card(self.contracts, result, facts)


def _refuse(gates: list[Gate]) -> None:
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        raise ValueError("export: " + "; ".join(f"{g.name} {g.figure:.2g} is over {g.budget:.2g}" for g in failed))


def _num_weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
