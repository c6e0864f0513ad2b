"""What is told of live windows: a board of recent ones, gates, webhooks, metrics and the dashboard."""

from __future__ import annotations

import json
import queue
import re
import threading
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rungwise.cli.watch_exports import Prometheus, Webhook, parse_address
from rungwise.score.watch import Ended, LeftOut, RungName, ScoredWindow
from rungwise.score.watch_board import Board, Comparison, GateChange, Recent

ROOT = Path(__file__).parents[3]


def window(rung: str, start: float, score: float, kbps: float = 1000.0) -> ScoredWindow:
    return ScoredWindow(RungName("t", rung), start, start + 4, start, score, score, True, False, 1.0, kbps)


def test_recent_windows_a_gate_and_rungs_out_of_order() -> None:
    board = Board({RungName("t", "low"): 1000.0, RungName("t", "high"): None}, 2, 70, "higher_is_better")
    items = [
        item
        for event in (
            window("low", 0, 80),
            window("high", 0.5, 75, 4000),
            window("low", 4, 60),
            window("low", 8, 72),
            window("low", 12, 71),
            Ended(RungName("t", "high"), 1),
            window("low", 16, 71),
        )
        for item in board.add(event)
    ]
    recents = [(item.worst.score, item.mean, item.num_windows) for item in items if isinstance(item, Recent)]
    assert recents == [(80, 80, 1), (75, 75, 1), (60, 70, 2), (60, 66, 2), (71, 71.5, 2), (71, 71, 2)]
    [compared] = [item for item in items if isinstance(item, Comparison)]
    assert compared.unordered == (("low", "high"),)
    assert compared.kbps == (1000.0, 4000.0)
    changes = [(item.passes, item.window.start_seconds) for item in items if isinstance(item, GateChange)]
    assert changes == [(False, 4), (True, 12)]
    assert board.num_failures == 1


def test_a_rung_that_stands_still_takes_no_memory() -> None:
    board = Board({RungName("t", "low"): None, RungName("t", "high"): None}, 15, None, "higher_is_better")
    for i in range(200):
        list(board.add(window("low", 4.0 * i, 80)))
    assert len(board.moments["t"]) <= 32


class Receiver(BaseHTTPRequestHandler):
    """Fails the first call, takes the others."""

    bodies: queue.Queue[dict[str, object]]
    statuses: list[int]

    def do_POST(self) -> None:
        """Take a call."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.statuses.pop(0)
        if status == 200:
            self.bodies.put(body)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterable[Callable[[list[int]], str]]:
    """Starts a server that answers with the given statuses; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def start(statuses: list[int]) -> str:
        Receiver.bodies, Receiver.statuses = queue.Queue(), statuses
        return f"http://127.0.0.1:{server.server_port}/hook"

    yield start
    server.shutdown()
    server.server_close()


def test_a_webhook_is_called_again_after_an_error(
    receiver: Callable[[list[int]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rungwise.cli.watch_exports.RETRY_SECONDS", 0.05)
    webhook = Webhook(receiver([503, 200]))
    webhook.add(GateChange(RungName("t", "low"), False, 70.0, window("low", 4, 60)))
    webhook.close()
    body = Receiver.bodies.get(timeout=5)
    assert (body["event"], body["rung"], body["score"], body["passes"]) == ("gate", "low", 60, False)


@pytest.mark.parametrize("status", [302, 404])
def test_a_webhook_follows_no_redirect(
    receiver: Callable[[list[int]], str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook = Webhook(receiver([status]))
    webhook.add(GateChange(RungName("t", "low"), False, 70.0, window("low", 4, 60)))
    webhook.close()
    assert f"{status}" in capsys.readouterr().err
    assert Receiver.bodies.empty()


def test_metrics_for_prometheus() -> None:
    rung = RungName("t", "low")
    exporter = Prometheus(("127.0.0.1", 0), [rung])
    one = window("low", 0, 80)
    for item in (Recent(one, one, 80.0, 1), LeftOut(rung, "skip", 4.5, "to keep up"), Ended(rung, 1)):
        exporter.add(item)
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.server.server_port}/metrics", timeout=5) as response:
        text = response.read().decode()
    exporter.close()
    assert 'rungwise_score{rung="low",title="t"} 80.0' in text
    assert 'rungwise_left_out_seconds_total{kind="skip",rung="low",title="t"} 4.5' in text
    assert 'rungwise_up{rung="low",title="t"} 0.0' in text


def test_the_dashboard_shows_metrics_that_exist() -> None:
    exporter = Prometheus(("127.0.0.1", 0), [])
    families = {family.name for family in exporter.registry.collect()}
    exporter.close()
    dashboard = json.loads((ROOT / "docs/grafana/rungwise.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name.removesuffix("_total") for text in expressions for name in re.findall(r"rungwise_\w+", text)}
    assert families - shown == {"rungwise_pixel_score"}
    assert shown <= families


@pytest.mark.parametrize("text", ["9100", "x:0", ":99999", "a:b"])
def test_addresses_that_are_none(text: str) -> None:
    if text == "9100":
        assert parse_address(text) == ("0.0.0.0", 9100)
        return
    with pytest.raises(ValueError, match="HOST"):
        parse_address(text)
