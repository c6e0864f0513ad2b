"""The page of a proposed ladder: its numbers are those of its JSON, and it works offline at both widths."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rungwise.ladder.propose import CodecLadder, Proposal, ProposedRung, TrialCurve, TrialPoint
from rungwise.ladder.rungs import make_crossover
from rungwise.ladder.shots import ShotCrfs
from rungwise.metrics.curves import Crossing
from rungwise.report.proposal_page import make_page, proposal_text, write_proposal


def make_ladder(codec: str, factor: float) -> CodecLadder:
    points = {
        360: [(40, 100.0, 60.0, True), (30, 300.0, 75.0, True), (20, 900.0, 80.0, False)],
        720: [(40, 250.0, 70.0, False), (30, 700.0, 85.0, True), (20, 2500.0, 95.0, True)],
    }
    curves = tuple(
        TrialCurve(
            height=height,
            points=tuple(
                TrialPoint(crf=crf, bitrate_kbps=kbps * factor, vmaf=vmaf, measured=measured)
                for crf, kbps, vmaf, measured in rows
            ),
        )
        for height, rows in points.items()
    )
    rungs = tuple(
        ProposedRung(
            height=curve.height,
            crf=point.crf,
            bitrate_kbps=point.bitrate_kbps,
            vmaf=point.vmaf,
            command=f"ffmpeg -i <master>.mkv -crf {point.crf} out.mp4",
            per_shot=ShotCrfs(crfs=(28, 31), bitrate_kbps=284.0, vmaf=75.1, saved_percent=5.3)
            if point.crf == 30
            else None,
        )
        for curve in curves
        for point in curve.points
        if point.measured
    )
    crossover = make_crossover(360, 720, Crossing((320.5 * factor,), "high"))
    return CodecLadder(codec=codec, preset="", rungs=rungs, crossovers=(crossover,), curves=curves, note="a note")


@pytest.fixture(scope="module")
def proposal() -> Proposal:
    return Proposal(
        master="<b>master</b>.mkv",
        display_height=720,
        sampled_seconds=24.0,
        duration_seconds=600.0,
        step=6.0,
        ladders=(make_ladder("h264", 1.0), make_ladder("av1", 0.6)),
        manifests=("out/master.m3u8",),
        shots=(0, 80),
        runs={"encode": 12, "model": 6, "vmaf": 8},
        seconds={"encode": 3.0, "model": 1.0, "vmaf": 9.0},
    )


def test_numbers_are_roundings_of_the_json_and_text_is_escaped(proposal: Proposal) -> None:
    page = make_page(proposal)
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data = json.loads(match[1])
    assert data == json.loads(proposal.model_dump_json())
    shown = re.findall(r'<span data-k="ladders\.(\d)\.rungs\.(\d)\.(\w+)">([\d.]+)</span>', page)
    assert len(shown) == 3 * 8
    for place, row, name, text in shown:
        value = data["ladders"][int(place)]["rungs"][int(row)][name]
        assert abs(value - float(text)) <= 0.5
    assert "<b>master" not in page
    assert page.count('class="pt crossing"') == 2 * 2  # two codecs, two widths


def test_files_say_the_same(proposal: Proposal, tmp_path: Path) -> None:
    write_proposal(proposal, tmp_path)
    assert Proposal.model_validate_json((tmp_path / "propose.json").read_text()) == proposal
    text = (tmp_path / "propose.txt").read_text()
    assert text == proposal_text(proposal) + "\n"
    assert "360p and 720p cross at 320 kbps; 720p is better above" in text
    assert "encoded: out/master.m3u8" in text
    per_shot = "360p crf 30 per shot: crf 28 31; 284 kbps, VMAF 75.1, 5.3 % less than one CRF for all shots"
    assert per_shot in text
    page = (tmp_path / "propose.html").read_text()
    assert f"h264 {per_shot}." in page
    assert "The master has 2 shots" in page


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(proposal: Proposal, tmp_path: Path, open_page: Any, hover_text: Any, width: int) -> None:
    write_proposal(proposal, tmp_path)
    with open_page(tmp_path / "propose.html", width) as page:
        rung = page.locator("svg:visible .rung.pt").first
        assert hover_text(page, rung).startswith("rung: 360p crf 40")
