"""Where `rungwise watch` reports to besides stdout: metrics for Prometheus, and a webhook."""

from __future__ import annotations

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from rungwise import __version__
from rungwise.cli.watch_output import Item, as_values
from rungwise.progress import warn
from rungwise.score.watch import Ended, LeftOut, Notice, RungName
from rungwise.score.watch_board import GateChange, Recent

MAX_WAITING = 100  # calls of a webhook that is slow; more are dropped, and said
TRIES, TIMEOUT_SECONDS, RETRY_SECONDS, CLOSE_SECONDS = 3, 5.0, 1.0, 10.0


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of [HOST]:PORT; without a host, all of this machine's addresses.

    Raises:
        ValueError: it is not one.
    """
    host, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"--prometheus {text}: not [HOST]:PORT, such as :9100")
    return host.strip("[]") or "0.0.0.0", int(port)


class Prometheus:
    """Serves metrics of all rungs at /metrics.

    Raises:
        ValueError: prometheus_client is not installed, or the address is taken.
    """

    def __init__(self, address: tuple[str, int], rungs: Sequence[RungName]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
        except ImportError as error:
            raise ValueError("--prometheus needs prometheus_client: pip install 'rungwise[watch]'") from error
        self.registry = registry = CollectorRegistry()
        labels = "title", "rung"

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"rungwise_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, more: tuple[str, ...] = ()) -> Counter:
            return Counter(f"rungwise_{name}", text, (*labels, *more), registry=registry)

        self.score = gauge("score", "Score of the last window")
        self.pixel_score = gauge("pixel_score", "Pixel-only score of the last window")
        self.worst = gauge("worst_score", "Worst score of the last windows (--last)")
        self.mean = gauge("mean_score", "Mean score of the last windows (--last)")
        self.lag = gauge("lag_seconds", "Time between the end of the last window at the source and its score")
        self.kbps = gauge("bitrate_kbps", "Bitrate of the last window, all tracks")
        self.gate = gauge("gate_passes", "1 if the rung passes --gate")
        self.up = gauge("up", "1 until the source has ended")
        self.windows = counter("windows", "Windows scored")
        self.left_out = counter("left_out_seconds", "Video that is not scored", ("kind",))
        self.notices = counter("notices", "Lost and regained connections, notes")
        for rung in rungs:
            self.up.labels(rung.title, rung.rung).set(1)
            self.gate.labels(rung.title, rung.rung).set(1)
        try:
            self.server, self.thread = start_http_server(address[1], address[0], registry)
        except OSError as error:
            raise ValueError(f"--prometheus {address[0]}:{address[1]}: {error.strerror}") from error

    def add(self, item: Item) -> None:
        """Count one item."""
        if isinstance(item, Recent):
            window = item.window
            labels = window.rung.title, window.rung.rung
            self.score.labels(*labels).set(window.score)
            self.pixel_score.labels(*labels).set(window.pixel_score)
            self.worst.labels(*labels).set(item.worst.score)
            self.mean.labels(*labels).set(item.mean)
            self.lag.labels(*labels).set(window.lag_seconds)
            self.kbps.labels(*labels).set(window.kbps)
            self.windows.labels(*labels).inc()
        elif isinstance(item, LeftOut):
            self.left_out.labels(item.rung.title, item.rung.rung, item.kind).inc(item.seconds)
        elif isinstance(item, Notice):
            self.notices.labels(item.rung.title, item.rung.rung).inc()
        elif isinstance(item, Ended):
            self.up.labels(item.rung.title, item.rung.rung).set(0)
        elif isinstance(item, GateChange):
            self.gate.labels(item.window.rung.title, item.window.rung.rung).set(item.passes)

    def close(self) -> None:
        """Stop serving."""
        self.server.shutdown()
        self.server.server_close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: object, **options: object) -> None:
        """None: a redirect is an error."""


class Webhook:
    """Sends changes of the gate to a URL, from a thread of its own.

    Raises:
        ValueError: not an http(s) URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--webhook {url}: not an http:// or https:// URL")
        self.url, self.host = url, parts.hostname
        self.opener = urllib.request.build_opener(_NoRedirect)
        self.waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self.is_closed = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def add(self, item: Item) -> None:
        """Send one item, if it is a change of the gate."""
        if not isinstance(item, GateChange):
            return
        try:
            self.waiting.put_nowait(json.dumps(as_values(item)).encode())
        except queue.Full:
            warn(f"--webhook {self.host}: too slow; a call is dropped")

    def _run(self) -> None:
        while (body := self.waiting.get()) is not None:
            self._send(body)

    def _send(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"rungwise/{__version__}"}
        for number in range(TRIES):
            request = urllib.request.Request(self.url, body, headers, method="POST")
            try:
                with self.opener.open(request, timeout=TIMEOUT_SECONDS):
                    return
            except (OSError, ValueError) as error:
                problem = str(error)
                is_final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if is_final or number + 1 == TRIES or self.is_closed.wait(RETRY_SECONDS * 2**number):
                break
        warn(f"--webhook {self.host}: {problem}")

    def close(self) -> None:
        """Send what waits, for `CLOSE_SECONDS` at most."""
        try:
            self.waiting.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            return
        self.thread.join(CLOSE_SECONDS)
        self.is_closed.set()
