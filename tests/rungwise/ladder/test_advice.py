"""The recommendation against brute force; savings; gates; agreement."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from rungwise.ladder.advice import choose_rungs, recommend, savings
from rungwise.ladder.compare import MetricReport, Report, compare, failed_gates, parse_gates
from rungwise.ladder.rungs import LadderCheck, Rung

CheckRows = Callable[..., tuple[list[Rung], LadderCheck]]
Rows = list[tuple[str, int, float, float]]


def test_choice_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(2, 10))
        q = np.cumsum(rng.integers(1, 6, n)).astype(float) if rng.random() < 0.5 else np.cumsum(rng.uniform(0.1, 9, n))
        count = int(rng.integers(2, n + 1))

        least = float(rng.choice([0.0, 2.0, 4.0]))
        ways = []
        for middle in itertools.combinations(range(1, n - 1), count - 2):
            gaps = np.diff(q[[0, *middle, n - 1]])
            if gaps.min() >= least:
                ways.append((float(gaps.max()), float((gaps**2).sum())))
        chosen = choose_rungs(q, count, least)
        if chosen is None:
            assert not ways
            continue
        gaps = np.diff(q[list(chosen)])
        assert (chosen[0], chosen[-1], len(chosen)) == (0, n - 1, count)
        assert (gaps.max(), (gaps**2).sum()) == pytest.approx(min(ways))
    assert choose_rungs([1.0, 2.0, 3.0], 1) == (2,)
    assert choose_rungs([1.0, 2.0], 9) == (0, 1)


def test_a_sound_ladder_is_kept_whole(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows(sound)
    for advice, codec in zip(recommend(rungs, check), check.codecs, strict=True):
        assert advice.keep == codec.rungs
        assert (advice.drop, advice.add, advice.note) == ((), (), "")
        assert advice.largest_gap == pytest.approx(10.0)


def test_bad_rungs_are_dropped_with_their_reason(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows([*sound[:6], ("h264", 720, 5000.0, 78.0), ("h264", 720, 4600.0, 85.5)])
    (advice,) = recommend(rungs, check, cap_kbps=4550)
    assert advice.keep == check.codecs[0].rungs[:6]
    assert {drop.rung: drop.reason for drop in advice.drop} == {6: "above the cap", 7: "above the cap"}
    (free,) = recommend(rungs, check)
    assert 6 not in free.keep
    assert next(drop.reason for drop in free.drop if drop.rung == 6) == "out of order"
    assert 7 in free.keep  # the best stays, and the one half a point under it goes
    assert next(drop for drop in free.drop if drop.rung == 5).reason == "not needed"


def test_fewer_rungs_under_a_cap(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows(sound[:6])
    (advice,) = recommend(rungs, check, count=3, cap_kbps=2600)
    assert [rungs[row].bitrate_kbps for row in advice.keep] == [200, 800, 2600]
    assert not advice.add
    (one,) = recommend(rungs, check, count=1, cap_kbps=1000)
    assert [rungs[row].bitrate_kbps for row in one.keep] == [800]
    assert one.largest_gap is None
    (none,) = recommend(rungs, check, cap_kbps=100)
    assert (none.keep, none.note) == ((), "no sound rung is below the cap of 100 kbps")


def test_gaps_are_filled_on_the_curve(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows([sound[0], sound[3], sound[5]])  # 40, 69, 85
    (advice,) = recommend(rungs, check)
    levels = [add.quality for add in advice.add]
    assert levels == pytest.approx([40 + 29 / 3, 40 + 58 / 3, 77.0])
    rates = [add.bitrate_kbps for add in advice.add]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(200 * (1500 / 200) ** (1 / 3))
    assert advice.add[-1].height == 720
    (five,) = recommend(rungs, check, count=5)
    assert len(five.keep) + len(five.add) == 5
    (many,) = recommend(rungs, check, count=30)
    assert "only 7 fit one step apart" in many.note
    (few,) = recommend(rungs, check, count=2)
    assert not few.add


def test_too_many_rungs_are_noted(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows(sound[:6], step=14)
    (advice,) = recommend(rungs, check, count=6)
    assert advice.note == "with 6 rungs, some are less than one step apart"


def test_savings_of_one_codec(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows([*sound, ("vp9", 240, 100.0, 50.0), ("h264", 720, 5000.0, 60.0)])
    pairs = {(s.anchor, s.codec): s for s in savings(rungs, check)}
    assert set(pairs) == {("h264", "hevc"), ("h264", "vp9"), ("hevc", "vp9")}
    assert pairs["h264", "hevc"].bd_rate_percent == pytest.approx(-30.0)
    assert pairs["h264", "vp9"].bd_rate_percent is None
    assert pairs["h264", "vp9"].reason.startswith("vp9: 1 of at least 4 points")
    (back, _) = savings(rungs, check, anchor="hevc")
    assert back.bd_rate_percent == pytest.approx(100 * (1 / 0.7 - 1))
    with pytest.raises(ValueError, match="--anchor is 'av1'; the ladder's codecs are h264, hevc, vp9"):
        savings(rungs, check, anchor="av1")


def report(rungs: list[Rung], *checks: LadderCheck) -> Report:
    return Report(
        rungwise="0", source="x", display_height=720, rungs=tuple(rungs),
        metrics=tuple(
            MetricReport(check=c, recommendations=recommend(rungs, c), savings=savings(rungs, c)) for c in checks
        ),
        agreement=None, objective="", count=None, cap_kbps=None, failures={}, notes=(),
    )  # fmt: skip


def test_gates(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows([*sound, ("h264", 720, 5000.0, 78.0), ("hevc", 720, 3200.0, 86.0)])
    whole = report(rungs, check)
    assert failed_gates(parse_gates("gap>12,floor<40,ceiling<85"), whole) == []
    (line,) = failed_gates(parse_gates("unordered"), whole)
    assert line.startswith("unordered: h264-720p-5000k: h264 720p at 5000 kbps: 720p at 4500 kbps")
    assert len(failed_gates(parse_gates("off-hull, unordered,close"), whole)) == 3
    assert len(failed_gates(parse_gates("gap>9.5"), whole)) == 4
    assert len(failed_gates(parse_gates("floor<41,ceiling<85.5"), whole)) == 3


@pytest.mark.parametrize("text", ["", "of-hull", "gap", "gap>", "gap<3", "floor>3", "gap>1.2.3", "close,"])
def test_unknown_gates_name_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a gate; the choices are off-hull, unordered, close, gap>N"):
        parse_gates(text)


def test_agreement_counts_what_differs(sound: Rows, check_rows: CheckRows) -> None:
    rungs, truth = check_rows([*sound, ("h264", 720, 5000.0, 78.0)])
    _, first = check_rows([(*row[:3], row[3] + 3) for row in [*sound, ("h264", 720, 5000.0, 85.5)]])
    agreement = compare(rungs, first, truth)
    assert agreement.offset == pytest.approx(3 + 7.5 / 13)
    assert agreement.srcc is not None
    assert agreement.srcc_log_bitrate is not None
    assert agreement.srcc > agreement.srcc_log_bitrate
    (fault,) = agreement.faults
    assert (fault.rung, fault.by_first, fault.by_truth) == (12, ("close",), ("unordered", "off-hull"))
    assert (agreement.hull_both, agreement.hull_first_only, agreement.hull_truth_only) == (12, 1, 0)
    same = compare(rungs, truth, truth)
    assert (same.srcc, same.offset, same.scatter) == (1.0, 0.0, 0.0)
    assert same.faults[0].by_first == same.faults[0].by_truth


def test_added_rungs_lie_strictly_between_kept_ones(check_rows: CheckRows) -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        rates, q = np.sort(rng.uniform(100, 6000, 9)), np.sort(rng.uniform(10, 95, 9)) + rng.normal(0, 1, 9)
        rungs, check = check_rows([("h264", 360 if i < 5 else 720, rates[i], q[i]) for i in range(9)])
        for advice in (*recommend(rungs, check), *recommend(rungs, check, count=12)):
            for add in advice.add:
                assert rungs[add.lower].bitrate_kbps < add.bitrate_kbps < rungs[add.upper].bitrate_kbps
                assert check.verdicts[add.lower].quality < add.quality < check.verdicts[add.upper].quality
                assert add.height in (rungs[add.lower].height, rungs[add.upper].height)


def test_no_rung_is_dropped_where_another_is_added_nearly_the_same(check_rows: CheckRows) -> None:
    rng = np.random.default_rng(7)
    for _ in range(60):
        rates, q = np.sort(rng.uniform(100, 6000, 8)), np.sort(rng.uniform(10, 95, 8))
        rungs, check = check_rows([("h264", 360, rates[i], q[i]) for i in range(8)])
        (advice,) = recommend(rungs, check)
        moved = {add.replaced for add in advice.add} - {None}
        assert {drop.rung for drop in advice.drop if drop.reason == "replaced"} == moved
        dropped = [drop.rung for drop in advice.drop if check.verdicts[drop.rung].sound]
        for row in dropped:
            assert min(abs(q[row] - q[other]) for other in advice.keep) < check.metric.least_rise
        for add in advice.add:
            assert all(abs(q[row] - add.quality) > check.metric.noise for row in dropped if row not in moved)
