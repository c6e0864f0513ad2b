"""Fidelity of `rungwise ladder check`: its decisions by a metric beside those by VMAF v1, on test contents.

    python benchmarks/ladder_encodes.py --masters FOLDER --work DIR
    python benchmarks/ladder_fidelity.py --work DIR --out benchmarks/results/ladder_fidelity.json

The first command makes the encodes. The second scores them at paired places, as the check does, and needs minutes: run
it again for another packaged file (`--model` for one that is not packaged). Scores lie in DIR, by content and model.

- Sound ladders: rungs of one content and codec that VMAF v1 recommends, so it finds no fault.
- Faulty ladders: a sound one with one planted fault that VMAF v1 finds.
- Errors of a difference, from which the check's tolerances follow: of each content from all others; `errors` in the
  output, over all contents, are HYBRID_ERRORS and PIXEL_ONLY_ERRORS of rungwise/ladder/rungs.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ladder_encodes import read_table
from ladder_faults import (
    NUM_DRAWS,
    FloatArray,
    Predictor,
    check,
    column,
    error_figures,
    fault_figures,
    faulty_ladders,
    rungs_of,
    sound_ladders,
    truth_of,
)
from scipy.optimize import minimize

from rungwise.artifact import sha256_file, write_json
from rungwise.ladder.advice import recommend
from rungwise.ladder.joint import joint_scores, missing_octaves
from rungwise.ladder.rungs import CONFIDENCE, DifferenceErrors, make_metric
from rungwise.media.ffmpeg import ffmpeg_version
from rungwise.metrics.ladder_fidelity import Ladders, ladder_fidelity
from rungwise.score.scorer import SHIPPED_MODEL

HELD_PART = 0.8  # of differences: of the others, half are wrong in the harmless direction
NEAR_RATIO = 3.0  # bitrates of two rungs whose difference counts in the errors
COUNT = 5  # rungs of a recommended ladder
CAPS = (0.4, 0.7, 1.0)  # quantiles of a content's and codec's bitrates
OFFSETS = (0.25, 0.5, 1.0, 2.0)  # points, between two codecs
BD_FLOOR = 5.0  # percent, above which the sign of a BD-rate counts


def log_bitrate(table: pd.DataFrame) -> FloatArray:
    """VMAF v1 by a line through log-bitrate, of each content from all others."""
    x, y = np.log(table["bitrate_kbps"].to_numpy()), table["vmaf_v1"].to_numpy()
    values = np.empty(len(table))
    for content in table["content"].unique():
        own = (table["content"] == content).to_numpy()
        values[own] = np.polyval(np.polyfit(x[~own], y[~own], 1), x[own])
    return values


def difference_errors(table: pd.DataFrame, quality: Callable[[Sequence[int]], FloatArray]) -> pd.DataFrame:
    """Squared errors of differences between two rungs of a content and codec, near in bitrate: one row a pair."""
    rows = []
    usual = table[table["role"].isin(["grid", "vbr", "capped"])]
    for (content, _), codec in usual.groupby(["content", "codec"], sort=False):
        rate, height = codec["bitrate_kbps"].to_numpy(), codec["height"].to_numpy()
        error = quality(codec.index.tolist()) - codec["vmaf_v1"].to_numpy()
        a, b = np.triu_indices(len(codec), 1)
        near = np.abs(np.log(rate[a] / rate[b])) <= np.log(NEAR_RATIO)
        a, b = a[near], b[near]
        score = error + codec["vmaf_v1"].to_numpy()
        part = {"square": (error[a] - error[b]) ** 2, "points": score[a] - score[b], "across": height[a] != height[b]}
        rows.append(pd.DataFrame({"content": content} | part))
    return pd.concat(rows, ignore_index=True)


def fit_errors(pairs: pd.DataFrame) -> DifferenceErrors:
    """Errors of which CONFIDENCE times holds 8 of 10 differences, whatever their height and size: quantile regression.

    Differences that are wrong by more than that have the wrong sign in half of the cases.
    """
    error, points = np.sqrt(pairs["square"].to_numpy()), pairs["points"].to_numpy()
    across = pairs["across"].to_numpy()

    def loss(logs: FloatArray) -> float:
        one_height, two_heights, share = np.exp(logs)
        held = CONFIDENCE * np.hypot(np.where(across, two_heights, one_height), share * points)
        beyond = np.log(np.maximum(error, 1e-3) / held)  # in logs, so that small differences count as large ones do
        return float(np.where(beyond > 0, HELD_PART * beyond, (HELD_PART - 1) * beyond).mean())

    one_height, two_heights, share = np.exp(minimize(loss, np.log([1.5, 2.5, 0.3]), method="Nelder-Mead").x)
    return DifferenceErrors(one_height=round(one_height, 3), across=round(two_heights, 3), share=round(share, 3))


def predictors(table: pd.DataFrame) -> list[Predictor]:
    """The baseline, the model's scores, and VMAF v0; "hybrid" is what the check uses."""
    v0 = make_metric("VMAF v0", "vmaf_v0.6.1", "vmaf")
    baseline = make_metric("log-bitrate", "vmaf", "column")
    return [
        Predictor("log-bitrate", column(log_bitrate(table)), lambda _: baseline),
        _model_row(table, "pixel-only", column(table["pixel_only"])),
        _model_row(table, "hybrid, each rung by itself", column(table["hybrid"])),
        _model_row(table, "hybrid", joint_column(table)),
        Predictor("VMAF v0", column(table["vmaf_v0"]), lambda _: v0),
    ]


def joint_column(table: pd.DataFrame) -> Callable[[Sequence[int]], FloatArray]:
    """Hybrid scores, estimated jointly over the rows that are asked for."""

    def joint(rows: Sequence[int]) -> FloatArray:
        own = table.loc[list(rows)]
        missing = missing_octaves(own["log2_bits"], own["log2_qstep"], own["height"], own["codec"].tolist())
        scores = joint_scores(own["hybrid"], own["pixel_only"], missing, own["height"], own["codec"].tolist())
        return np.clip(scores, 0.0, 100.0)

    return joint


def _model_row(table: pd.DataFrame, name: str, quality: Callable[[Sequence[int]], FloatArray]) -> Predictor:
    pairs = difference_errors(table, quality)
    metrics = {
        content: make_metric(name, "vmaf", "model", errors=fit_errors(pairs[pairs["content"] != content]))
        for content in table["content"].unique()
    }
    return Predictor(name, quality, metrics.__getitem__)


def grids(table: pd.DataFrame) -> Iterator[tuple[str, str, list[int]]]:
    """Content, codec and rows of each grid."""
    for (content, codec), part in table[table["role"] == "grid"].groupby(["content", "codec"], sort=False):
        yield str(content), str(codec), part.index.tolist()


def curve_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """Hull agreement and BD-rates between codecs on the grids."""
    grid = table[table["role"] == "grid"]
    codes, names = pd.factorize(grid["content"])
    quality = np.empty(len(grid))
    for code in range(len(names)):  # all codecs of a title at once, as in the check
        quality[codes == code] = predictor.quality(grid.index[codes == code].tolist())
    series = pd.factorize(grid["content"] + grid["codec"] + grid["height"].astype(str))[0]
    ladders = Ladders(
        grid["vmaf_v1"].to_numpy(np.float64), quality, grid["bitrate_kbps"].to_numpy(np.float64),
        codes, list(names), grid["codec"].tolist(), series,
    )  # fmt: skip
    result = ladder_fidelity(predictor.name, ladders, 200, 0, {})
    pairs = [(p.truth_percent, p.predictor_percent) for p in result.bd_pairs if not p.refused]
    true, own = np.asarray(pairs, np.float64).reshape(-1, 2).T
    plain = np.abs(true) > BD_FLOOR
    return {
        "hull_agreement": result.hull_agreement.model_dump(),
        "bd_pairs": len(true),
        "bd_refused": sum(result.bd_refused.values()),
        "bd_mean_error": float(np.abs(own - true).mean()) if len(true) else None,
        "bd_median_error": float(np.median(np.abs(own - true))) if len(true) else None,
        "bd_same_sign": float((np.sign(own) == np.sign(true))[plain].mean()) if plain.any() else None,
        "bd_signs": int(plain.sum()),
    }


def offset_figures(table: pd.DataFrame) -> list[dict[str, float]]:
    """BD-rate errors of VMAF v1 with a random offset between the codecs of a content, means over draws."""
    codecs, rows = table.groupby(["content", "codec"]).ngroup().to_numpy(), list[dict[str, float]]()
    draws = np.random.default_rng(0).normal(0, 0.5**0.5, (NUM_DRAWS, codecs.max() + 1))[:, codecs]
    for points in OFFSETS:
        qualities = [column(table["vmaf_v1"] + points * draw) for draw in draws]
        figures = [curve_figures(table, replace(truth_of(table), quality=quality)) for quality in qualities]
        means = {key: float(np.mean([figure[key] for figure in figures])) for key in ("bd_mean_error", "bd_same_sign")}
        rows.append({"offset": points} | means)
    return rows


def crossover_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """Errors of the bitrates at which heights cross, where both have one crossing, and how often only one has."""
    truth, octaves, differing = truth_of(table), list[float](), 0
    for content, _, rows in grids(table):
        by_truth = check(table, rows, truth).codecs[0].crossovers
        own = check(table, rows, predictor, content).codecs[0].crossovers
        for a, b in zip(by_truth, own, strict=True):
            if len(a.bitrates_kbps) == len(b.bitrates_kbps) == 1:
                octaves.append(abs(float(np.log2(b.bitrates_kbps[0] / a.bitrates_kbps[0]))))
            else:
                differing += (a.better_height, a.bitrates_kbps != ()) != (b.better_height, b.bitrates_kbps != ())
    return {
        "crossovers": len(octaves),
        "crossover_mean_octaves": float(np.mean(octaves)) if octaves else None,
        "crossover_median_octaves": float(np.median(octaves)) if octaves else None,
        "crossovers_of_one": differing,
    }


def recommendation_figures(table: pd.DataFrame, predictor: Predictor) -> dict[str, Any]:
    """VMAF v1 lost by COUNT recommended rungs of a grid in place of those that VMAF v1 would choose under the cap."""
    truth, losses = truth_of(table), list[tuple[str, float]]()
    for content, _, rows in grids(table):
        rate = table["bitrate_kbps"].to_numpy()[rows]
        for cap in np.quantile(rate, CAPS):
            chosen = []
            for metric in (truth, predictor):
                result = check(table, rows, metric, content)
                advice = recommend(rungs_of(table, rows), result, count=COUNT, cap_kbps=float(cap))[0]
                chosen.append([rows[i] for i in advice.keep])
            if all(chosen):
                least = max(rate[[rows.index(row) for row in ladder]].min() for ladder in chosen)
                best, own = (delivered(table, ladder, least, float(cap)) for ladder in chosen)
                losses.append((content, best - own))
    values = pd.DataFrame(losses, columns=["content", "points"])
    return {
        "ladders_recommended": len(values),
        "vmaf_lost": float(values["points"].mean()),
        "vmaf_lost_worst_content": float(values.groupby("content")["points"].mean().max()),
        "vmaf_lost_within_1": float((values["points"] <= 1).mean()),
    }


def delivered(table: pd.DataFrame, rows: Sequence[int], least: float, cap: float) -> float:
    """Mean VMAF v1 of the dearest rung that fits, over log-uniform bandwidths from one that both ladders can use."""
    bandwidth = np.geomspace(least, cap, 200) * (1 + 1e-9)
    rate, quality = table["bitrate_kbps"].to_numpy()[list(rows)], table["vmaf_v1"].to_numpy()[list(rows)]
    order = np.argsort(rate)
    return float(quality[order][np.searchsorted(rate[order], bandwidth, side="right") - 1].mean())


def main() -> None:
    """Score the encodes and write all figures."""
    parser = argparse.ArgumentParser(description="Fidelity of `rungwise ladder check`")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = read_table(arguments.work, arguments.model)
    sound = sound_ladders(table)
    ladders = sound + [faulty for ladder in sound for faulty in faulty_ladders(table, ladder)]
    rows = {}
    for predictor in predictors(table):
        rows[predictor.name] = (
            fault_figures(table, ladders, predictor) | curve_figures(table, predictor)
            | crossover_figures(table, predictor) | recommendation_figures(table, predictor)
        )  # fmt: skip
    qualities = {"hybrid": joint_column(table), "pixel_only": column(table["pixel_only"])}
    errors = {name: fit_errors(difference_errors(table, quality)).model_dump() for name, quality in qualities.items()}
    result = {
        "ffmpeg": ffmpeg_version(), "model": sha256_file(arguments.model)[:16], "contents": table["content"].nunique(),
        "encodes": len(table), "ladders": len(ladders), "errors": errors, "rows": rows,
        "vmaf_v1_with_error": error_figures(table, ladders), "vmaf_v1_with_offset": offset_figures(table),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
