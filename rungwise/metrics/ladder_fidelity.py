"""How well a predictor replaces the truth where ladders are built: savings between codecs, hulls, order of steps.

A codec's curve on a content is its Pareto front over all its rungs, whatever their size. Every judge draws its own
front and hull, as it would in the truth's place. BD-rate by both is compared for each content and pair of codecs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rungwise.metrics import statistics as st
from rungwise.metrics.curves import MIN_BD_POINTS, BDRate, bd_rate, convex_hull
from rungwise.metrics.evaluation_result import BDPair, Interval, LadderFidelity, PairInterval, interval
from rungwise.metrics.statistics import FloatArray, IntArray, Resampled

SAME_BD_PERCENT = 0.05  # BD-rates this near 0 name no winner
MIN_HULL_ROWS = 3


class Ladders(NamedTuple):
    """Rows (n,) with a bitrate: truth and prediction (higher is better), kbps, number and name of the content, codec,
    number of the series of like rungs (content, codec, preset, size)."""

    truth: FloatArray
    pred: FloatArray
    bitrate_kbps: FloatArray
    content: IntArray
    content_names: list[str]
    codec: list[str]
    series: IntArray


ByCodec = Mapping[int, Mapping[str, IntArray]]  # content -> codec -> rows
BDCache = dict[tuple[bytes, ...], BDRate]


def ladder_fidelity(predictor: str, rows: Ladders, num_resamples: int, seed: int, truths: BDCache) -> LadderFidelity:
    """All of it for one predictor; `truths` keeps the truth's own BD-rates from one predictor to the next."""
    codecs_of = _by_codec(rows)
    bd_pairs, of_pair = _bd_pairs(rows, codecs_of, truths)
    judged = [i for i, pair in enumerate(bd_pairs) if not pair.refused]
    by_truth = np.array([bd_pairs[i].truth_percent for i in judged], np.float64)
    by_pred = np.array([bd_pairs[i].predictor_percent for i in judged], np.float64)
    content, errors = of_pair[judged], np.abs(by_pred - by_truth)
    winner_t, winner_p = (np.sign(v) * (np.abs(v) > SAME_BD_PERCENT) for v in (by_truth, by_pred))
    hulls, of_hull = _hull_agreement(rows, codecs_of)
    first, second = _steps(rows)
    rise_t, rise_p = (np.sign(v[second] - v[first]) for v in (rows.truth, rows.pred))
    moving = rise_t != 0

    def figure(value: float, resampled: Resampled, content: IntArray) -> Interval:
        return interval(value, *st.bootstrap_by_content(resampled, content, num_resamples, seed))

    def share(values: FloatArray, content: IntArray) -> PairInterval:
        found = Interval(value=None)
        if content.size:
            codes = np.unique(content, return_inverse=True)[1]
            resampled = st.resampled_share(np.bincount(codes, values), np.bincount(codes))
            found = figure(float(values.mean()), resampled, content)
        return PairInterval(**found.model_dump(), pairs=values.size)

    median = rank = Interval(value=None)
    if content.size:
        resampled = st.resampled_rows(lambda drawn, _: float(np.median(errors[drawn])), content)
        median = figure(float(np.median(errors)), resampled, content)
    if content.size > 1:
        rank = figure(st.srcc(by_truth, by_pred), st.resampled_srcc(by_truth, by_pred, content), content)
    return LadderFidelity(
        predictor=predictor,
        bd_median_error=median,
        bd_same_sign=share(1 - np.abs(winner_t - winner_p) / 2, content),
        bd_srcc=rank,
        bd_refused=dict(Counter(_kind(pair.refused) for pair in bd_pairs if pair.refused)),
        hull_agreement=share(hulls, of_hull),
        steps_in_order=share(1 - np.abs(rise_t - rise_p)[moving] / 2, rows.content[first][moving]),
        steps_rising=float((rise_p > 0).mean()) if first.size else None,
        truth_steps_rising=float((rise_t > 0).mean()) if first.size else None,
        bd_pairs=tuple(bd_pairs),
    )


def _kind(refused: str) -> str:
    judge, _, reason = refused.partition(": ")
    return f"{judge}: fewer than {MIN_BD_POINTS} points on a front" if "points" in reason else refused


def _by_codec(rows: Ladders) -> ByCodec:
    """Rows of each content's codecs."""
    found: dict[int, dict[str, list[int]]] = {}
    for row, (content, codec) in enumerate(zip(rows.content.tolist(), rows.codec, strict=True)):
        found.setdefault(content, {}).setdefault(codec, []).append(row)
    return {content: {codec: np.array(v) for codec, v in codecs.items()} for content, codecs in found.items()}


def _bd_pairs(rows: Ladders, codecs_of: ByCodec, truths: BDCache) -> tuple[list[BDPair], IntArray]:
    """Every pair of codecs on every content, and the number of the content."""
    found, contents = [], []
    for content, codecs in codecs_of.items():
        for anchor, test in itertools.combinations(sorted(codecs), 2):
            a, b = codecs[anchor], codecs[test]
            key = tuple(v[part].tobytes() for v in (rows.truth, rows.bitrate_kbps) for part in (a, b))

            def savings(quality: FloatArray, a: IntArray = a, b: IntArray = b) -> BDRate:
                return bd_rate(rows.bitrate_kbps[a], quality[a], rows.bitrate_kbps[b], quality[b])

            if key not in truths:
                truths[key] = savings(rows.truth)
            truth = truths[key]
            pred = BDRate(None) if truth.reason else savings(rows.pred)
            refused = f"truth: {truth.reason}" if truth.reason else f"prediction: {pred.reason}" if pred.reason else ""
            contents.append(content)
            found.append(
                BDPair(
                    content=rows.content_names[content],
                    anchor=anchor,
                    test=test,
                    truth_percent=truth.percent,
                    predictor_percent=pred.percent,
                    refused=refused,
                )
            )
    return found, np.array(contents, np.int64)


def _hull_agreement(rows: Ladders, codecs_of: ByCodec) -> tuple[FloatArray, IntArray]:
    """Of each codec's rungs on a content: those on both hulls by those on either (h,), and the content (h,)."""
    shares, contents = [], []
    for content, codecs in codecs_of.items():
        for part in codecs.values():
            if part.size >= MIN_HULL_ROWS:
                kbps = rows.bitrate_kbps[part]
                by_truth, by_pred = (set(convex_hull(kbps, v[part]).tolist()) for v in (rows.truth, rows.pred))
                shares.append(len(by_truth & by_pred) / len(by_truth | by_pred))
                contents.append(content)
    return np.array(shares), np.array(contents, np.int64)


def _steps(rows: Ladders) -> tuple[IntArray, IntArray]:
    """Neighbors by bitrate in each series: the cheaper and the dearer row."""
    order = np.lexsort((rows.bitrate_kbps, rows.series))
    first, second = order[:-1], order[1:]
    kept = (rows.series[first] == rows.series[second]) & (rows.bitrate_kbps[first] < rows.bitrate_kbps[second])
    return first[kept], second[kept]
