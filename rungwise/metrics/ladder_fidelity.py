"""Ladder fidelity: whether a predictor leads to the same ladder decisions as the truth.

It compares BD-rates between codecs, convex hulls, and the order of adjacent rungs. A codec's rate-quality curve on a
content is the convex hull of all its rungs, at any resolution: where heights cross, the Pareto front has rungs that
gain nearly no quality for much bitrate, and BD-rate would swing there. Truth and predictor each have their own hull, as
in practice only one of them is available.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rungwise.metrics import bootstrap
from rungwise.metrics import statistics as st
from rungwise.metrics.bootstrap import Resampled
from rungwise.metrics.curves import MIN_BD_POINTS, BDRate, bd_rate, convex_hull
from rungwise.metrics.evaluation_result import BDPair, Interval, LadderFidelity, PairInterval, interval
from rungwise.metrics.statistics import FloatArray, IntArray

TIED_BD_PERCENT = 0.05  # BD-rates this close to 0 count as a tie
MIN_HULL_ROWS = 3


class Ladders(NamedTuple):
    """The n rows with a bitrate.

    Attributes:
        truth: labels (n,), higher is better.
        pred: predictions (n,), higher is better.
        bitrate_kbps: (n,), above 0.
        content: number of the content, (n,).
        content_names: names by content number.
        codec: codec (and preset) of each row.
        series: number of the series (content, codec, preset, resolution), (n,).
    """

    truth: FloatArray
    pred: FloatArray
    bitrate_kbps: FloatArray
    content: IntArray
    content_names: list[str]
    codec: list[str]
    series: IntArray


ByCodec = Mapping[int, Mapping[str, IntArray]]  # content -> codec -> rows
BDCache = dict[tuple[bytes, ...], BDRate]


def ladder_fidelity(
    predictor: str, rows: Ladders, num_resamples: int, seed: int, truth_bd_rates: BDCache
) -> LadderFidelity:
    """Ladder fidelity of one predictor; `truth_bd_rates` caches the BD-rates by the truth across predictors."""
    codecs_of = _by_codec(rows)
    bd_pairs, pair_content = _bd_pairs(rows, codecs_of, truth_bd_rates)
    used = [i for i, pair in enumerate(bd_pairs) if not pair.refused]
    by_truth = np.array([bd_pairs[i].truth_percent for i in used], np.float64)
    by_pred = np.array([bd_pairs[i].predictor_percent for i in used], np.float64)
    content, errors = pair_content[used], np.abs(by_pred - by_truth)
    sign_t, sign_p = (np.sign(v) * (np.abs(v) > TIED_BD_PERCENT) for v in (by_truth, by_pred))
    hull_iou, hull_content = _hull_agreement(rows, codecs_of)
    first, second = _adjacent_rungs(rows)
    rise_t, rise_p = (np.sign(v[second] - v[first]) for v in (rows.truth, rows.pred))
    differs = rise_t != 0

    def bootstrapped(value: float, resampled: Resampled, content: IntArray) -> Interval:
        return interval(value, *bootstrap.bootstrap_by_content(resampled, content, num_resamples, seed))

    def fraction(values: FloatArray, content: IntArray) -> PairInterval:
        mean = Interval(value=None)
        if content.size:
            codes = np.unique(content, return_inverse=True)[1]
            resampled = bootstrap.resampled_fraction(np.bincount(codes, values), np.bincount(codes))
            mean = bootstrapped(float(values.mean()), resampled, content)
        return PairInterval(**mean.model_dump(), pairs=values.size)

    median_error = bd_srcc = Interval(value=None)
    if content.size:
        resampled = bootstrap.resampled_rows(lambda drawn, _: float(np.median(errors[drawn])), content)
        median_error = bootstrapped(float(np.median(errors)), resampled, content)
    if content.size > 1:
        bd_srcc = bootstrapped(
            st.srcc(by_truth, by_pred), bootstrap.resampled_srcc(by_truth, by_pred, content), content
        )
    return LadderFidelity(
        predictor=predictor,
        bd_median_error=median_error,
        bd_same_sign=fraction(1 - np.abs(sign_t - sign_p) / 2, content),
        bd_srcc=bd_srcc,
        bd_refused=dict(Counter(_reason_group(pair.refused) for pair in bd_pairs if pair.refused)),
        hull_agreement=fraction(hull_iou, hull_content),
        steps_in_order=fraction(1 - np.abs(rise_t - rise_p)[differs] / 2, rows.content[first][differs]),
        steps_rising=float((rise_p > 0).mean()) if first.size else None,
        truth_steps_rising=float((rise_t > 0).mean()) if first.size else None,
        bd_pairs=tuple(bd_pairs),
    )


def _reason_group(refused: str) -> str:
    """The reason without the details that differ between pairs, for counting."""
    source, _, reason = refused.partition(": ")
    return f"{source}: fewer than {MIN_BD_POINTS} points on a convex hull" if "points" in reason else refused


def _by_codec(rows: Ladders) -> ByCodec:
    """Rows by content and codec."""
    rows_of: dict[int, dict[str, list[int]]] = {}
    for row, (content, codec) in enumerate(zip(rows.content.tolist(), rows.codec, strict=True)):
        rows_of.setdefault(content, {}).setdefault(codec, []).append(row)
    return {content: {codec: np.array(v) for codec, v in codecs.items()} for content, codecs in rows_of.items()}


def _bd_pairs(rows: Ladders, codecs_of: ByCodec, truth_bd_rates: BDCache) -> tuple[list[BDPair], IntArray]:
    """Every pair of codecs on every content, and the content number of each pair (p,)."""
    pairs, contents = [], []
    for content, codecs in codecs_of.items():
        for anchor, test in itertools.combinations(sorted(codecs), 2):
            a, b = codecs[anchor], codecs[test]
            key = tuple(v[part].tobytes() for v in (rows.truth, rows.bitrate_kbps) for part in (a, b))

            def bd_rate_by(quality: FloatArray, a: IntArray = a, b: IntArray = b) -> BDRate:
                kbps = rows.bitrate_kbps
                c, d = (part[convex_hull(kbps[part], quality[part])] for part in (a, b))
                return bd_rate(kbps[c], quality[c], kbps[d], quality[d])

            if key not in truth_bd_rates:
                truth_bd_rates[key] = bd_rate_by(rows.truth)
            truth = truth_bd_rates[key]
            pred = BDRate(None) if truth.reason else bd_rate_by(rows.pred)
            refused = f"truth: {truth.reason}" if truth.reason else f"prediction: {pred.reason}" if pred.reason else ""
            contents.append(content)
            pairs.append(
                BDPair(
                    content=rows.content_names[content],
                    anchor=anchor,
                    test=test,
                    truth_percent=truth.percent,
                    predictor_percent=pred.percent,
                    refused=refused,
                )
            )
    return pairs, np.array(contents, np.int64)


def _hull_agreement(rows: Ladders, codecs_of: ByCodec) -> tuple[FloatArray, IntArray]:
    """Intersection over union of both hulls of each codec on each content, (h,), and the content's number, (h,)."""
    ious, contents = [], []
    for content, codecs in codecs_of.items():
        for part in codecs.values():
            if part.size >= MIN_HULL_ROWS:
                kbps = rows.bitrate_kbps[part]
                by_truth, by_pred = (set(convex_hull(kbps, v[part]).tolist()) for v in (rows.truth, rows.pred))
                ious.append(len(by_truth & by_pred) / len(by_truth | by_pred))
                contents.append(content)
    return np.array(ious), np.array(contents, np.int64)


def _adjacent_rungs(rows: Ladders) -> tuple[IntArray, IntArray]:
    """Rows of rungs adjacent in bitrate within a series: the lower and the higher bitrate, (s,) each."""
    order = np.lexsort((rows.bitrate_kbps, rows.series))
    first, second = order[:-1], order[1:]
    adjacent = (rows.series[first] == rows.series[second]) & (rows.bitrate_kbps[first] < rows.bitrate_kbps[second])
    return first[adjacent], second[adjacent]
