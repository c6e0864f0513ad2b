"""Planted faults are found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rungwise.ladder.advice import recommend
from rungwise.ladder.faults import check_ladder
from rungwise.ladder.rungs import KINDS, DifferenceErrors, LadderCheck, Rung, describe, make_metric

CheckRows = Callable[..., tuple[list[Rung], LadderCheck]]
Rows = list[tuple[str, int, float, float]]
ERRORS = DifferenceErrors(one_height=1, across=4, share=0.1)


def flags_by_row(check: LadderCheck) -> dict[int, tuple[str, ...]]:
    return {i: verdict.flags for i, verdict in enumerate(check.verdicts) if verdict.flags}


def test_a_sound_ladder_has_no_findings(sound: Rows, check_rows: CheckRows) -> None:
    rungs, check = check_rows(sound)
    assert not check.findings
    assert not flags_by_row(check)
    assert check.num_flagged == 0
    assert [codec.codec for codec in check.codecs] == ["h264", "hevc"]
    for codec in check.codecs:
        assert codec.hull == codec.rungs
        assert [rungs[row].height for row in codec.rungs] == [240, 240, 360, 360, 720, 720]
        assert (check.verdicts[codec.floor].quality, check.verdicts[codec.ceiling].quality) == (40.0, 85.0)
        assert len(codec.neighbors) == 5


PLANTED: dict[str, tuple[tuple[str, int, float, float], tuple[str, ...]]] = {
    "spoiled, same height": (("h264", 720, 5000.0, 78.0), ("unordered", "off-hull")),
    "low height at a high rate": (("hevc", 240, 2000.0, 62.0), ("unordered", "off-hull")),
    "dear for what it gives": (("h264", 360, 1450.0, 61.0), ("off-hull",)),
    "a copy, 3 % dearer": (("hevc", 720, 2600 * 0.7 * 1.03, 77.2), ("close",)),
    "above the top, by nothing": (("h264", 720, 9000.0, 85.9), ("close",)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_fault_is_found_alone(sound: Rows, check_rows: CheckRows, name: str) -> None:
    row, flags = PLANTED[name]
    rungs, check = check_rows([*sound, row])
    assert flags_by_row(check) == {len(sound): flags}
    (finding,) = check.findings
    assert (finding.kind, finding.number, finding.rungs[0]) == (flags[0], 1, len(sound))
    assert finding.text.startswith(describe(rungs[-1]))


def test_all_planted_faults_together(sound: Rows, check_rows: CheckRows) -> None:
    rows = [*sound, *(row for row, _ in PLANTED.values())]
    order = np.random.default_rng(0).permutation(len(rows))
    _, check = check_rows([rows[i] for i in order])
    place = {int(original): i for i, original in enumerate(order)}
    expected = {place[len(sound) + i]: flags for i, (_, flags) in enumerate(PLANTED.values())}
    assert flags_by_row(check) == expected
    kinds = [finding.kind for finding in check.findings]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert [finding.number for finding in check.findings] == list(range(1, 6))


def test_a_saturated_top_is_one_finding(sound: Rows, check_rows: CheckRows) -> None:
    top = [("h264", 720, 4500 * 1.5**i, 85 + 0.7 * i) for i in range(1, 6)]
    _, check = check_rows([*sound, *top])
    (finding,) = check.findings
    assert finding.rungs == tuple(range(len(sound), len(sound) + 5))
    assert check.num_flagged == 5
    assert finding.text == (
        "h264 720p at 6750, 10125, 15188, 22781 and 34172 kbps: at most +3.5 points over 720p at 4500 kbps, "
        "for 50 to 659 % more bitrate."
    )
    assert finding.action == "keep one of these 6"


def test_faults_with_one_cause_are_one_finding(sound: Rows, check_rows: CheckRows) -> None:
    low = [("h264", 240, 1450.0, 61.0), ("h264", 240, 1500.0, 61.2)]
    _, check = check_rows([*sound, *low])
    (finding,) = check.findings
    assert (finding.kind, finding.rungs, finding.other) == ("off-hull", (12, 13), None)
    assert finding.text.startswith("h264 240p at 1450 and 1500 kbps: ")
    assert "which reaches these qualities with" in finding.text
    assert finding.action == "encode them at 360p"
    worse = [("h264", 720, 5000.0, 78.0), ("h264", 720, 6000.0, 79.0)]
    _, check = check_rows([*sound, *worse])
    (finding,) = check.findings
    assert "720p at 4500 kbps scores 6.0 to 7.0 points higher with 10 to 25 % less bitrate" in finding.text
    assert finding.action == "drop them"
    apart = [("h264", 360, 420.0, 40.0), ("h264", 360, 1450.0, 61.0)]  # a sound 360p rung lies between them
    _, check = check_rows([*sound, *apart])
    assert [finding.rungs for finding in check.findings] == [(12,), (13,)]


def test_a_gap_lies_between_rungs_without_a_fault(sound: Rows, check_rows: CheckRows) -> None:
    rows = [row for row in sound if not (row[0] == "h264" and 60.0 <= row[3] < 77)]
    _, check = check_rows(rows)
    assert not flags_by_row(check)
    assert not check.findings
    (gap,) = check.codecs[0].gaps
    assert (rows[gap.lower][3], rows[gap.upper][3], gap.points, gap.steps) == (50.0, 77.0, 27.0, 4.5)
    assert gap.certain
    assert check.codecs[1].gaps == ()
    _, rough = check_rows(rows, errors=DifferenceErrors(one_height=15, across=15, share=0))
    assert [gap.certain for gap in rough.codecs[0].gaps] == [False]


def test_noise_below_the_tolerance_is_no_fault(sound: Rows, check_rows: CheckRows) -> None:
    rows = [*sound, ("h264", 720, 6000.0, 83.1)]  # dearer and a little worse: close, not out of order
    _, check = check_rows(rows)
    assert flags_by_row(check) == {len(sound): ("close",)}
    _, strict = check_rows(rows, tolerance=1.5)
    assert flags_by_row(strict) == {len(sound): ("unordered", "off-hull")}


def test_the_error_of_a_difference_parts_faults_from_doubts(check_rows: CheckRows) -> None:
    rows = [("av1", 360, 100.0, 50.0), ("av1", 360, 200.0, 53.5), ("av1", 540, 300.0, 53.5), ("av1", 540, 900.0, 70.0)]
    _, exact = check_rows(rows)
    assert flags_by_row(exact) == {1: ("close",), 2: ("off-hull",)}
    rungs, check = check_rows(rows, errors=ERRORS)
    assert check.metric.noise == 2.0
    assert flags_by_row(check) == {1: ("close",)}
    assert check.verdicts[2].doubts == ("off-hull",)
    assert check.verdicts[2].sound
    certain, doubt = check.findings
    assert (certain.certain, doubt.certain, doubt.number) == (True, False, 2)
    assert doubt.action.startswith("uncertain")
    (advice,) = recommend(rungs, check)
    assert {drop.rung: drop.reason for drop in advice.drop} == {
        1: "too close to a kept rung",
        2: "perhaps below the hull",
    }


def test_a_rung_that_may_be_out_of_order_is_not_called_too_close(check_rows: CheckRows) -> None:
    rows = [
        ("h264", 360, 100.0, 50.0),
        ("h264", 540, 470.0, 70.0),
        ("h264", 360, 471.0, 66.0),
        ("h264", 540, 900.0, 80.0),
    ]
    _, check = check_rows(rows, errors=ERRORS)
    assert not flags_by_row(check)
    assert check.verdicts[2].doubts == ("unordered", "off-hull")


def test_a_rise_a_little_under_a_step_is_no_fault_and_kept(check_rows: CheckRows) -> None:
    rungs, check = check_rows([("av1", 360, 100.0, 50.0), ("av1", 360, 200.0, 55.9), ("av1", 360, 500.0, 67.0)])
    assert not check.findings
    (advice,) = recommend(rungs, check)
    assert (advice.keep, advice.drop, advice.add) == ((0, 1, 2), (), ())


def test_what_is_wasted_is_measured_on_the_hull(check_rows: CheckRows) -> None:
    _, check = check_rows([("av1", 360, 100.0, 40.0), ("av1", 360, 300.0, 60.0), ("av1", 360, 250.0, 45.0)])
    verdict = check.verdicts[2]
    assert verdict.below_hull == pytest.approx(10.0)
    assert verdict.wasted_percent == pytest.approx(40.0)  # 45 is to be had at 150
    assert (check.verdicts[0].below_hull, check.verdicts[1].wasted_percent) == (0.0, 0.0)


def test_crossovers_between_neighboring_heights(check_rows: CheckRows) -> None:
    rows = [("av1", 240, rate, q) for rate, q in ((100.0, 40.0), (400.0, 50.0))]
    rows += [("av1", 480, rate, q) for rate, q in ((100.0, 30.0), (400.0, 60.0))]
    rows += [("av1", 720, rate, q) for rate, q in ((300.0, 20.0), (400.0, 25.0))]
    rows += [("av1", 1080, rate, q) for rate, q in ((3000.0, 80.0), (4000.0, 85.0))]
    _, check = check_rows(rows)
    first, second, third = check.codecs[0].crossovers
    assert first.bitrates_kbps == pytest.approx((200.0,))
    assert (first.better_height, first.text) == (480, "240p and 480p cross at 200 kbps; 480p is better above")
    assert (second.bitrates_kbps, second.better_height) == ((), 480)
    assert "480p is better than 720p at every bitrate" in second.text
    assert (third.better_height, third.text) == (None, "720p and 1080p do not overlap in bitrate")


def healthy(rng: np.random.Generator) -> tuple[list[Rung], list[float]]:
    """A random ladder: quality concave in bitrate, more than a step and less than two apart, heights rising."""
    rungs, quality = [], []
    for codec in ("h264", "av1")[: int(rng.integers(1, 3))]:
        count = int(rng.integers(2, 9))
        rises = rng.uniform(6.5, 11.5, count)
        slopes = np.sort(rng.uniform(0.001, 0.2, count))[::-1]
        rates, levels = np.cumsum(rises / slopes), np.cumsum(rises)
        heights = np.sort(rng.choice([240, 360, 540, 720], count))
        for kbps, q, height in zip(rates, levels, heights, strict=True):
            rungs.append(Rung(name=f"{codec} {kbps:.0f}", codec=codec, height=int(height), bitrate_kbps=float(kbps)))
            quality.append(float(q))
    return rungs, quality


def test_random_healthy_ladders_have_no_findings_and_dropping_the_bad_keeps_the_hull() -> None:
    rng = np.random.default_rng(3)
    metric = make_metric("vmaf", "vmaf", "column")
    for _ in range(150):
        rungs, quality = healthy(rng)
        clean = check_ladder(rungs, quality, metric)
        assert not clean.findings
        bad = [rung.model_copy(update={"bitrate_kbps": rung.bitrate_kbps * 1.5, "name": "bad"}) for rung in rungs[1:]]
        spoilt = [q - float(rng.uniform(2.5, 12)) for q in quality[1:]]
        check = check_ladder([*rungs, *bad], [*quality, *spoilt], metric)
        flagged = flags_by_row(check)
        assert set(flagged) == set(range(len(rungs), len(rungs) + len(bad)))
        assert all("off-hull" in flags for flags in flagged.values())
        assert [codec.hull for codec in check.codecs] == [codec.hull for codec in clean.codecs]


def test_order_of_rows_changes_nothing(sound: Rows, check_rows: CheckRows) -> None:
    rows = [*sound, *(row for row, _ in PLANTED.values())]
    rungs, check = check_rows(rows)
    turned, other = check_rows(rows[::-1])
    names = [{(rungs[i].name, finding.text) for finding in check.findings for i in finding.rungs}]
    names.append({(turned[i].name, finding.text) for finding in other.findings for i in finding.rungs})
    assert names[0] == names[1]


def test_step_and_tolerance_have_stated_sources() -> None:
    metric = make_metric("m", "vmaf_v1.0.16_3d0h", "model")
    assert (metric.step, metric.noise) == (6.0, 2.0)
    assert "streaminglearningcenter.com" in metric.step_source
    assert "simulated" in metric.noise_source
    given = make_metric("m", "mos", "model", step=0.3)
    assert given.step_source == "--step"
    assert given.noise == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"quality is mos.*--step"):
        make_metric("m", "mos", "model")
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"--tolerance is .* above 0"):
            make_metric("m", "vmaf", "model", tolerance=wrong)


def test_numbers_that_are_none_are_refused(check_rows: CheckRows) -> None:
    bad: list[Any] = [[], [("av1", 360, 0.0, 50.0)], [("av1", 360, 100.0, float("nan"))]]
    for rows in bad:
        with pytest.raises(ValueError, match="bitrates"):
            check_rows(rows)
