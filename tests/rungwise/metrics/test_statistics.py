"""Statistics, pairs and bootstrap: hand-computed and published values, and fast against plain resampling."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from rungwise.metrics import bootstrap, pairs
from rungwise.metrics import statistics as st
from rungwise.metrics.statistics import FloatArray, IntArray

pytestmark = pytest.mark.filterwarnings("error")

POINTS: list[Callable[[FloatArray, FloatArray], float]] = [st.srcc, st.krcc, st.plcc, st.plcc_logistic4]


def make_rows(num_contents: int = 12, per_content: int = 9, seed: int = 0) -> tuple[FloatArray, FloatArray, IntArray]:
    """Truth, a saturating prediction with an offset per content, and the content of each row."""
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
    expected = json.loads((published / f"{model}_info.json").read_text())["regression_performance"][0]
    assert st.srcc(truth, pred) == pytest.approx(expected["spearman"], abs=1e-12)
    assert st.krcc(truth, pred) == pytest.approx(expected["kendall"], abs=1e-12)
    assert st.plcc(truth, pred) == pytest.approx(expected["pearson"], abs=1e-12)
    assert st.rmse(truth, pred) == pytest.approx(expected["rmse"], abs=1e-12)


@pytest.mark.data
def test_published_log_bitrate_of_cvqad(outside_data: Callable[[str], Path]) -> None:
    table = pd.read_csv(outside_data("data/mos/cvqad_labels/Subjective_scores.csv"))
    for function, min_rows, expected in ((st.srcc, 15, 0.863), (st.krcc, 6, 0.701)):
        groups = [g for _, g in table.groupby(["sequence", "preset"]) if len(g) >= min_rows]
        values = [function(g["subjective_score"].to_numpy(), g["real_bitrate"].to_numpy()) for g in groups]
        assert st.fisher_z_mean(values, [len(g) for g in groups]) == pytest.approx(expected, abs=5e-4)


def test_values_by_hand() -> None:
    truth, pred = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert st.srcc(truth, pred) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert st.krcc(truth, pred) == pytest.approx(4 / 6)  # 5 concordant pairs, 1 discordant
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


def test_rmse_of_a_constant_after_the_fit_is_the_standard_deviation() -> None:
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
def test_invalid_arrays_raise(truth: list[float], pred: list[float]) -> None:
    for function in (st.srcc, st.krcc, st.plcc, st.rmse, st.fit_logistic4, st.plcc_logistic4):
        with pytest.raises(ValueError, match=r"expected two 1-D arrays|non-finite"):
            function(truth, pred)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_logistic_is_recovered_in_either_polarity(sign: float) -> None:
    pred = np.linspace(-3, 5, 60)
    expected = st.QualityMap("logistic4", (90.0, 10.0, 1.2, 0.7) if sign > 0 else (10.0, 90.0, 1.2, 0.7))
    truth = expected(pred)
    fitted = st.fit_logistic4(truth, pred)
    assert fitted.kind == "logistic4"
    assert fitted.beta == pytest.approx(expected.beta, rel=1e-4)
    assert np.all(np.diff(fitted(pred)) * sign > 0)
    assert st.plcc_logistic4(truth, pred) == pytest.approx(1)


def test_logistic_is_as_good_as_a_general_fit() -> None:
    truth, pred, _ = make_rows(seed=4)

    def form(x: FloatArray, a: float, b: float, c: float, d: float) -> FloatArray:
        return b + (a - b) / (1 + np.exp(-(x - c) / abs(d)))

    beta, _ = optimize.curve_fit(form, pred, truth, p0=(100, 0, pred.mean(), pred.std()), maxfev=20000)
    assert st.rmse_logistic4(truth, pred) <= st.rmse(truth, form(pred, *beta)) + 1e-6


def test_a_fit_stays_within_the_precision_of_numbers() -> None:
    """Scores within 3 points of each other, labels near the best: the curve's end lies 1e17 away."""
    truth = [96.975873, 82.508553, 99.291979, 88.163258, 99.215061, 89.753713, 99.28086, 89.400296,
             99.193773, 82.704332, 94.662444, 75.866437, 98.855714, 83.013502, 93.548905, 69.010602]  # fmt: skip
    pred = np.array([60.31432343, 60.01634216, 59.92271042, 59.65007782, 60.82390594, 60.72717667, 59.901191715,
                     59.73828888, 59.88217163, 59.7634697, 59.371276855, 59.323959351, 58.738365173, 58.750045776,
                     58.06311035, 58.0279007])  # fmt: skip
    line = st.QualityMap("linear", tuple(np.polyfit(pred, truth, 1)))
    assert st.rmse_logistic4(truth, pred) <= st.rmse(truth, line(pred)) + 1e-9
    assert st.plcc_logistic4(truth, pred) == pytest.approx(0.51, abs=0.01)


def test_a_straight_line_gives_a_linear_map() -> None:
    pred = np.linspace(0, 1, 20)
    fitted = st.fit_logistic4(3 * pred + 2, pred)
    assert fitted.kind == "linear"
    assert fitted.beta == pytest.approx((3, 2))


def test_fisher_z_mean() -> None:
    assert st.fisher_z_mean([1.0, 1.0]) == pytest.approx(0.99)
    assert st.fisher_z_mean([0.5, -0.5]) == pytest.approx(0)
    assert st.fisher_z_mean([0.3, 0.9], [1, 0]) == pytest.approx(0.3)
    assert np.isnan(st.fisher_z_mean([]))
    with pytest.raises(ValueError, match=r"expected correlations in \[-1, 1\]"):
        st.fisher_z_mean([1.2])


def test_within_content_by_hand() -> None:
    truth = [1, 2, 3, 1, 2, 3, 1, 2, 5, 5, 5]
    pred = [10, 20, 30, 3, 3, 3, 1, 2, 1, 2, 3]
    content = ["up"] * 3 + ["flat"] * 3 + ["short"] * 2 + ["same"] * 3
    result = st.within_content_srcc(truth, pred, content)
    assert result.used == 2  # the constant prediction counts as 0; the constant truth is dropped
    assert result.dropped == 2
    assert result.value == pytest.approx(np.tanh(np.arctanh(0.99) / 2))


def test_within_content_matches_the_mean_of_each_srcc() -> None:
    truth, pred, content = make_rows()
    pred = np.round(pred / 10)
    expected = st.fisher_z_mean([st.srcc(truth[content == c], pred[content == c]) for c in np.unique(content)])
    assert st.within_content_srcc(truth, pred, content).value == pytest.approx(expected, abs=1e-12)


def test_pair_accuracy_by_hand() -> None:
    truth, pred, group = [10.0, 20.0, 30.0, 0.0], [1.0, 1.0, 0.5, 9.0], ["a", "a", "a", "b"]
    assert pairs.pair_accuracy(truth, pred, group) == pytest.approx(0.5 / 3)  # one tie, two discordant pairs
    assert pairs.pair_accuracy(truth, pred, group, min_gap=10) == 0  # the gap is exclusive: only 10 against 30 is left
    kinds = np.array([0, 1, 1, 0])
    assert pairs.pair_accuracy(truth, pred, group, lambda i, j: kinds[i] != kinds[j]) == pytest.approx(0.25)
    assert np.isnan(pairs.pair_accuracy(truth, pred, group, min_gap=50))
    with pytest.raises(ValueError, match="min_gap"):
        pairs.pair_accuracy(truth, pred, group, min_gap=-1)


@pytest.mark.parametrize("shape", ["plain", "ties", "falling", "noise"])
def test_fast_resampling_matches_the_plain_one(shape: str) -> None:
    truth, pred, content = make_rows(8, 7)
    if shape == "ties":
        truth, pred = np.round(truth / 10), np.round(pred / 10)
    elif shape == "falling":
        pred = -pred
    elif shape == "noise":
        pred = np.random.default_rng(1).normal(size=pred.size)
    counts = np.random.default_rng(2).multinomial(8, [1 / 8] * 8, size=25).astype(float)
    correct, total = pairs.pair_counts(truth, pred, content, min_gap=5)
    statistics: list[tuple[bootstrap.Resampled, Callable[[IntArray, IntArray], float]]] = [
        (bootstrap.resampled_srcc(truth, pred, content), lambda rows, _: st.srcc(truth[rows], pred[rows])),
        (bootstrap.resampled_krcc(truth, pred, content), lambda rows, _: st.krcc(truth[rows], pred[rows])),
        (bootstrap.resampled_plcc(truth, pred, content), lambda rows, _: st.plcc(truth[rows], pred[rows])),
        (bootstrap.resampled_rmse(truth, pred, content), lambda rows, _: st.rmse(truth[rows], pred[rows])),
        (
            bootstrap.resampled_within_content_srcc(truth, pred, content),
            lambda rows, copies: st.within_content_srcc(truth[rows], pred[rows], copies).value,
        ),
        (
            bootstrap.resampled_fraction(correct, total),
            lambda rows, copies: pairs.pair_accuracy(truth[rows], pred[rows], copies, min_gap=5),
        ),
    ]
    for fast, plain in statistics:
        assert fast(counts) == pytest.approx(bootstrap.resampled_rows(plain, content)(counts), abs=1e-12)


def test_resampled_logistic_is_close_to_a_full_fit() -> None:
    truth, pred, content = make_rows()
    counts = np.random.default_rng(2).multinomial(12, [1 / 12] * 12, size=15).astype(float)
    fast_plcc, fast_rmse = bootstrap.resampled_logistic4(truth, pred, content)(counts)
    plcc = bootstrap.resampled_rows(lambda rows, _: st.plcc_logistic4(truth[rows], pred[rows]), content)
    rmse = bootstrap.resampled_rows(lambda rows, _: st.rmse_logistic4(truth[rows], pred[rows]), content)
    assert fast_plcc == pytest.approx(plcc(counts), abs=2e-3)
    assert fast_rmse == pytest.approx(rmse(counts), rel=2e-2)


@pytest.mark.parametrize("ties", [False, True])
def test_krcc_of_large_tables_is_close(monkeypatch: pytest.MonkeyPatch, ties: bool) -> None:
    truth, pred, content = make_rows(30, 40)
    if ties:
        truth, pred = np.round(truth / 10), np.round(pred / 10)
    counts = bootstrap.draw_contents(30, 20, 0)
    matrix = bootstrap.resampled_krcc(truth, pred, content)(counts)
    monkeypatch.setattr(bootstrap, "_MAX_KRCC_MATRIX_ROWS", 1)
    assert bootstrap.resampled_krcc(truth, pred, content)(counts) == pytest.approx(matrix, abs=1e-12 if ties else 5e-3)


@pytest.mark.parametrize("decimals", [0, 3])
def test_krcc_of_small_tables_matches_scipy(decimals: int) -> None:
    rng = np.random.default_rng(0)
    for size in (3, 10, 60):
        truth = rng.normal(size=size).round(decimals) + np.arange(size) / 20
        pred = (truth + rng.normal(size=size)).round(decimals)
        assert st.krcc(truth, pred) == pytest.approx(stats.kendalltau(truth, pred).statistic, abs=1e-14)


def test_bootstrap_is_seeded_and_contains_the_value() -> None:
    truth, pred, content = make_rows()
    statistic = bootstrap.resampled_srcc(truth, pred, content)
    low, high = bootstrap.bootstrap_by_content(statistic, content, 500, seed=7)
    assert low < st.srcc(truth, pred) < high
    assert bootstrap.bootstrap_by_content(statistic, content, 500, seed=7) == (low, high)
    assert bootstrap.bootstrap_by_content(statistic, content, 500, seed=8) != (low, high)


def test_bootstrap_resamples_contents_not_rows() -> None:
    truth, pred, content = make_rows()
    truth2, pred2, content2 = (np.concatenate([v, v]) for v in (truth, pred, content))  # more rows, the same contents
    single = bootstrap.bootstrap_by_content(bootstrap.resampled_srcc(truth, pred, content), content, 300)
    double = bootstrap.bootstrap_by_content(bootstrap.resampled_srcc(truth2, pred2, content2), content2, 300)
    assert double == pytest.approx(single, abs=2e-3)


def test_undefined_intervals() -> None:
    truth, pred, _ = make_rows(1, 9)
    content = np.zeros(9)
    assert np.isnan(bootstrap.bootstrap_by_content(bootstrap.resampled_srcc(truth, pred, content), content)).all()
    flat = np.full(9, 2.0)
    assert np.isnan(bootstrap.bootstrap_by_content(bootstrap.resampled_srcc(truth, flat, truth), truth)).all()
    with pytest.raises(ValueError, match="num_resamples"):
        bootstrap.bootstrap_by_content(bootstrap.resampled_srcc(truth, pred, truth), truth, 0)


def test_paired_difference() -> None:
    truth, pred, content = make_rows()
    worse = pred + np.random.default_rng(3).normal(0, 30, pred.size)
    a, b = bootstrap.resampled_srcc(truth, pred, content), bootstrap.resampled_srcc(truth, worse, content)
    delta, low, high = bootstrap.paired_bootstrap_by_content(a, b, content, 500)
    assert delta == pytest.approx(st.srcc(truth, pred) - st.srcc(truth, worse))
    assert 0 < low < delta < high
    assert bootstrap.paired_bootstrap_by_content(a, a, content, 50) == (0, 0, 0)


def test_pairs_of_a_large_group_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, pred, _ = make_rows(4, 50)
    group = np.zeros(truth.size)
    whole = pairs.pair_accuracy(truth, pred, group, min_gap=5)
    monkeypatch.setattr(pairs, "_MAX_PAIR_CELLS", 100 * truth.size)
    correct, total = pairs.pair_counts(truth, pred, group, min_gap=5)
    assert total[0] <= 100 * 99 / 2
    assert correct[0] / total[0] == pytest.approx(whole, abs=0.02)


def test_gap_can_depend_on_the_pair() -> None:
    truth, wide = np.array([1.0, 2.0, 3.0]), np.array([0.1, 5.0, 0.1])
    ordered = pairs.ordered_pairs(truth, np.zeros(3), lambda i, j: np.hypot(wide[i], wide[j]))
    assert (ordered.better.tolist(), ordered.worse.tolist()) == ([2], [0])
