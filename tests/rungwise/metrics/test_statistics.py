"""The statistics: hand-computed values, published ones, and the fast resampling against the plain one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from rungwise.metrics import statistics as st
from rungwise.metrics.statistics import FloatArray, IntArray

pytestmark = pytest.mark.filterwarnings("error")

POINTS: list[Callable[[FloatArray, FloatArray], float]] = [st.srcc, st.krcc, st.plcc, st.plcc_logistic4]


def make_rows(num_contents: int = 12, per_content: int = 9, seed: int = 0) -> tuple[FloatArray, FloatArray, IntArray]:
    """Truth, a saturating prediction with offsets by content, and the content of each row."""
    rng = np.random.default_rng(seed)
    content = np.repeat(np.arange(num_contents), per_content)
    truth = rng.uniform(5, 95, content.size)
    pred = 80 / (1 + np.exp(-(truth - 50) / 15)) + rng.normal(0, 6, num_contents)[content]
    return truth, pred + rng.normal(0, 5, content.size), content


@pytest.mark.data
@pytest.mark.parametrize("model", ["nofu", "fume", "hyfr", "hyfu"])
def test_published_figures(model: str, outside_data: Callable[[str], Path]) -> None:
    published = outside_data("data/mos/p1204_pixelmodels")
    table = pd.read_csv(published / f"{model}_crossval_regression.csv")
    truth, pred = table["truth"].to_numpy(), table["predicted"].to_numpy()
    wanted = json.loads((published / f"{model}_info.json").read_text())["regression_performance"][0]
    assert st.srcc(truth, pred) == pytest.approx(wanted["spearman"], abs=1e-12)
    assert st.krcc(truth, pred) == pytest.approx(wanted["kendall"], abs=1e-12)
    assert st.plcc(truth, pred) == pytest.approx(wanted["pearson"], abs=1e-12)
    assert st.rmse(truth, pred) == pytest.approx(wanted["rmse"], abs=1e-12)


@pytest.mark.data
def test_published_log_bitrate_of_cvqad(outside_data: Callable[[str], Path]) -> None:
    table = pd.read_csv(outside_data("data/mos/cvqad_labels/Subjective_scores.csv"))
    for function, smallest, wanted in ((st.srcc, 15, 0.863), (st.krcc, 6, 0.701)):
        groups = [g for _, g in table.groupby(["sequence", "preset"]) if len(g) >= smallest]
        values = [function(g["subjective_score"].to_numpy(), g["real_bitrate"].to_numpy()) for g in groups]
        assert st.fisher_z_mean(values, [len(g) for g in groups]) == pytest.approx(wanted, abs=5e-4)


def test_values_by_hand() -> None:
    truth, pred = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert st.srcc(truth, pred) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert st.krcc(truth, pred) == pytest.approx(4 / 6)  # 5 pairs in order, 1 not
    assert st.plcc(truth, pred) == pytest.approx(0.8)
    assert st.rmse(truth, pred) == pytest.approx(np.sqrt(0.5))


def test_ties_by_hand() -> None:
    truth, pred = [1.0, 2.0, 3.0], [1.0, 1.0, 2.0]  # ranks 1 2 3 and 1.5 1.5 3
    assert st.srcc(truth, pred) == pytest.approx(1.5 / np.sqrt(2 * 1.5))
    assert st.krcc(truth, pred) == pytest.approx(2 / np.sqrt(3 * 2))


@pytest.mark.parametrize("function", POINTS)
def test_constant_has_no_correlation(function: Callable[[FloatArray, FloatArray], float]) -> None:
    rising = np.arange(6.0)
    assert np.isnan(function(rising, np.full(6, 0.1)))
    assert np.isnan(function(np.full(6, 0.1), rising))


def test_rmse_of_a_constant_after_the_fit_is_the_spread() -> None:
    truth = np.arange(6.0)
    assert st.rmse_logistic4(truth, np.full(6, 3.0)) == pytest.approx(truth.std())


@pytest.mark.parametrize(
    ("truth", "pred"),
    [
        ([1.0, 2.0], [1.0]),
        ([1.0], [1.0]),
        ([[1.0, 2.0]], [[1.0, 2.0]]),
        ([1.0, np.nan], [1.0, 2.0]),
        ([1.0, 2.0], [np.inf, 2.0]),
    ],
)
def test_wrong_input(truth: list[float], pred: list[float]) -> None:
    for function in (st.srcc, st.krcc, st.plcc, st.rmse, st.fit_logistic4, st.plcc_logistic4):
        with pytest.raises(ValueError, match=r"want two 1-D arrays|non-finite"):
            function(truth, pred)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logistic_is_recovered_in_either_polarity(sign: float) -> None:
    pred = np.linspace(-3, 5, 60)
    wanted = st.QualityMap("logistic4", (90.0, 10.0, 1.2, 0.7) if sign > 0 else (10.0, 90.0, 1.2, 0.7))
    truth = wanted(pred)
    found = st.fit_logistic4(truth, pred)
    assert found.kind == "logistic4"
    assert found.beta == pytest.approx(wanted.beta, rel=1e-4)
    assert np.all(np.diff(found(pred)) * sign > 0)
    assert st.plcc_logistic4(truth, pred) == pytest.approx(1)


def test_logistic_is_as_good_as_a_general_fit() -> None:
    truth, pred, _ = make_rows(seed=4)

    def form(x: FloatArray, a: float, b: float, c: float, d: float) -> FloatArray:
        return b + (a - b) / (1 + np.exp(-(x - c) / abs(d)))

    beta, _ = optimize.curve_fit(form, pred, truth, p0=(100, 0, pred.mean(), pred.std()), maxfev=20000)
    assert st.rmse_logistic4(truth, pred) <= st.rmse(truth, form(pred, *beta)) + 1e-6


def test_a_straight_line_stays_one_and_says_so() -> None:
    pred = np.linspace(0, 1, 20)
    found = st.fit_logistic4(3 * pred + 2, pred)
    assert found.kind == "linear"
    assert found.beta == pytest.approx((3, 2))


def test_fisher_z_mean() -> None:
    assert st.fisher_z_mean([1.0, 1.0]) == pytest.approx(0.99)
    assert st.fisher_z_mean([0.5, -0.5]) == pytest.approx(0)
    assert st.fisher_z_mean([0.3, 0.9], [1, 0]) == pytest.approx(0.3)
    assert np.isnan(st.fisher_z_mean([]))
    with pytest.raises(ValueError, match=r"want correlations in \[-1, 1\]"):
        st.fisher_z_mean([1.2])


def test_within_content_by_hand() -> None:
    truth = [1, 2, 3, 1, 2, 3, 1, 2, 5, 5, 5]
    pred = [10, 20, 30, 3, 3, 3, 1, 2, 1, 2, 3]
    content = ["up"] * 3 + ["flat"] * 3 + ["short"] * 2 + ["same"] * 3
    result = st.within_content_srcc(truth, pred, content)
    assert result.used == 2  # the constant prediction counts, as 0; the constant truth cannot
    assert result.dropped == 2
    assert result.value == pytest.approx(np.tanh(np.arctanh(0.99) / 2))


def test_within_content_is_the_mean_of_each_srcc() -> None:
    truth, pred, content = make_rows()
    pred = np.round(pred / 10)
    wanted = st.fisher_z_mean([st.srcc(truth[content == c], pred[content == c]) for c in np.unique(content)])
    assert st.within_content_srcc(truth, pred, content).value == pytest.approx(wanted, abs=1e-12)


def test_pair_accuracy_by_hand() -> None:
    truth, pred, group = [10.0, 20.0, 30.0, 0.0], [1.0, 1.0, 0.5, 9.0], ["a", "a", "a", "b"]
    assert st.pair_accuracy(truth, pred, group) == pytest.approx(0.5 / 3)  # a tie, two wrong
    assert st.pair_accuracy(truth, pred, group, min_gap=10) == 0  # "more than": only 10 against 30 is left
    kinds = np.array([0, 1, 1, 0])
    assert st.pair_accuracy(truth, pred, group, lambda i, j: kinds[i] != kinds[j]) == pytest.approx(0.25)
    assert np.isnan(st.pair_accuracy(truth, pred, group, min_gap=50))
    with pytest.raises(ValueError, match="min_gap"):
        st.pair_accuracy(truth, pred, group, min_gap=-1)


@pytest.mark.parametrize("shape", ["plain", "ties", "falling", "noise"])
def test_fast_resampling_is_the_plain_one(shape: str) -> None:
    truth, pred, content = make_rows(8, 7)
    if shape == "ties":
        truth, pred = np.round(truth / 10), np.round(pred / 10)
    elif shape == "falling":
        pred = -pred
    elif shape == "noise":
        pred = np.random.default_rng(1).normal(size=pred.size)
    counts = np.random.default_rng(2).multinomial(8, [1 / 8] * 8, size=25).astype(float)
    right, total = st.pair_counts(truth, pred, content, min_gap=5)
    pairs: list[tuple[st.Resampled, Callable[[IntArray, IntArray], float]]] = [
        (st.resampled_srcc(truth, pred, content), lambda rows, _: st.srcc(truth[rows], pred[rows])),
        (st.resampled_krcc(truth, pred, content), lambda rows, _: st.krcc(truth[rows], pred[rows])),
        (st.resampled_plcc(truth, pred, content), lambda rows, _: st.plcc(truth[rows], pred[rows])),
        (st.resampled_rmse(truth, pred, content), lambda rows, _: st.rmse(truth[rows], pred[rows])),
        (
            st.resampled_within_content_srcc(truth, pred, content),
            lambda rows, copies: st.within_content_srcc(truth[rows], pred[rows], copies).value,
        ),
        (
            st.resampled_share(right, total),
            lambda rows, copies: st.pair_accuracy(truth[rows], pred[rows], copies, min_gap=5),
        ),
    ]
    for fast, plain in pairs:
        assert fast(counts) == pytest.approx(st.resampled_rows(plain, content)(counts), abs=1e-12)


def test_resampled_logistic_is_close_to_a_full_fit() -> None:
    truth, pred, content = make_rows()
    counts = np.random.default_rng(2).multinomial(12, [1 / 12] * 12, size=15).astype(float)
    fast_plcc, fast_rmse = st.resampled_logistic4(truth, pred, content)(counts)
    plcc = st.resampled_rows(lambda rows, _: st.plcc_logistic4(truth[rows], pred[rows]), content)
    rmse = st.resampled_rows(lambda rows, _: st.rmse_logistic4(truth[rows], pred[rows]), content)
    assert fast_plcc == pytest.approx(plcc(counts), abs=2e-3)
    assert fast_rmse == pytest.approx(rmse(counts), rel=2e-2)


@pytest.mark.parametrize("ties", [False, True])
def test_large_krcc_path_agrees(monkeypatch: pytest.MonkeyPatch, ties: bool) -> None:
    truth, pred, content = make_rows(30, 40)
    if ties:
        truth, pred = np.round(truth / 10), np.round(pred / 10)
    counts = st.draw_contents(30, 20, 0)
    matrix = st.resampled_krcc(truth, pred, content)(counts)
    monkeypatch.setattr(st, "_MAX_KRCC_MATRIX_ROWS", 1)
    assert st.resampled_krcc(truth, pred, content)(counts) == pytest.approx(matrix, abs=1e-12 if ties else 5e-3)


@pytest.mark.parametrize("decimals", [0, 3])
def test_small_krcc_is_that_of_scipy(decimals: int) -> None:
    rng = np.random.default_rng(0)
    for size in (3, 10, 60):
        truth = rng.normal(size=size).round(decimals) + np.arange(size) / 20
        pred = (truth + rng.normal(size=size)).round(decimals)
        assert st.krcc(truth, pred) == pytest.approx(stats.kendalltau(truth, pred).statistic, abs=1e-14)


def test_bootstrap_is_seeded_and_holds_the_value() -> None:
    truth, pred, content = make_rows()
    statistic = st.resampled_srcc(truth, pred, content)
    low, high = st.bootstrap_by_content(statistic, content, 500, seed=7)
    assert low < st.srcc(truth, pred) < high
    assert st.bootstrap_by_content(statistic, content, 500, seed=7) == (low, high)
    assert st.bootstrap_by_content(statistic, content, 500, seed=8) != (low, high)


def test_bootstrap_resamples_contents_not_rows() -> None:
    truth, pred, content = make_rows()
    doubled = [np.concatenate([v, v]) for v in (truth, pred, content)]  # more rows, no more contents
    once = st.bootstrap_by_content(st.resampled_srcc(truth, pred, content), content, 300)
    twice = st.bootstrap_by_content(st.resampled_srcc(doubled[0], doubled[1], doubled[2]), doubled[2], 300)
    assert twice == pytest.approx(once, abs=2e-3)


def test_no_interval_where_there_can_be_none() -> None:
    truth, pred, _ = make_rows(1, 9)
    one = np.zeros(9)
    assert np.isnan(st.bootstrap_by_content(st.resampled_srcc(truth, pred, one), one)).all()
    flat = np.full(9, 2.0)
    assert np.isnan(st.bootstrap_by_content(st.resampled_srcc(truth, flat, truth), truth)).all()
    with pytest.raises(ValueError, match="num_resamples"):
        st.bootstrap_by_content(st.resampled_srcc(truth, pred, truth), truth, 0)


def test_paired_difference() -> None:
    truth, pred, content = make_rows()
    worse = pred + np.random.default_rng(3).normal(0, 30, pred.size)
    a, b = st.resampled_srcc(truth, pred, content), st.resampled_srcc(truth, worse, content)
    delta, low, high = st.paired_bootstrap_by_content(a, b, content, 500)
    assert delta == pytest.approx(st.srcc(truth, pred) - st.srcc(truth, worse))
    assert 0 < low < delta < high
    assert st.paired_bootstrap_by_content(a, a, content, 50) == (0, 0, 0)


def test_pairs_of_a_huge_group_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, pred, _ = make_rows(4, 50)
    one = np.zeros(truth.size)
    whole = st.pair_accuracy(truth, pred, one, min_gap=5)
    monkeypatch.setattr(st, "_MAX_PAIR_CELLS", 100 * truth.size)
    right, total = st.pair_counts(truth, pred, one, min_gap=5)
    assert total[0] <= 100 * 99 / 2
    assert right[0] / total[0] == pytest.approx(whole, abs=0.02)


def test_a_gap_may_depend_on_the_pair() -> None:
    truth, wide = np.array([1.0, 2.0, 3.0]), np.array([0.1, 5.0, 0.1])
    pairs = st.ordered_pairs(truth, np.zeros(3), lambda i, j: np.hypot(wide[i], wide[j]))
    assert (pairs.better.tolist(), pairs.worse.tolist()) == ([2], [0])
