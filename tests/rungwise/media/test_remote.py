"""Remote files: read by ranges in spite of faults of the server, and only from where it is allowed."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rungwise.cli import app
from rungwise.ladder.encodes import find_encodes
from rungwise.media import remote
from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.media.playlists import read_playlist, write_whole
from rungwise.media.remote import Network, is_private
from rungwise.media.remote_files import fetch_file
from rungwise.score.inputs import find_inputs

HOST = "127.0.0.1"


class Server(BaseHTTPRequestHandler):
    """Serves `files` by ranges; `fault` may answer a request in its place."""

    files: dict[str, bytes]
    fault: Callable[[Server, bytes], bool]
    requests: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        """Answer one request."""
        self.requests.append((self.path, self.headers["Range"]))
        data = self.files.get(self.path.partition("?")[0])
        if data is None:
            self.send_error(404)
        elif not type(self).fault(self, data):
            self.send_part(data)

    def send_part(
        self, data: bytes, *, shift: int = 0, sent: int | None = None, total: int | None = None, whole: bool = False
    ) -> bool:
        """The requested range; `shift`, `sent` and `total` falsify its start, its length and the file's size."""
        match = None if whole else re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        start = int(match[1]) if match else 0
        stop = min(len(data), int(match[2]) + 1) if match and match[2] else len(data)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start + shift}-{stop - 1 + shift}/{total or len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop][:sent])
        return True

    def refuse(self, status: int) -> bool:
        """Answer with an error."""
        self.send_error(status)
        return True

    def redirect(self, location: str) -> bool:
        """Send the client elsewhere."""
        self.send_response(302)
        self.send_header("Location", location)
        self.end_headers()
        return True

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its URL; files and fault are set on `Server`."""
    monkeypatch.setattr(remote, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(remote, "CHUNK_BYTES", 100_000)
    Server.files, Server.requests, Server.fault = {"/a.bin": bytes(range(256)) * 1000}, [], lambda *_: False
    running = ThreadingHTTPServer((HOST, 0), Server)
    running.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{running.server_port}"
    running.shutdown()
    running.server_close()


def network() -> Network:
    return Network([HOST], tries=3)


def fetched(server: str, tmp_path: Path, name: str = "/a.bin") -> bytes:
    return fetch_file(server + name, tmp_path, network()).read_bytes()


def test_a_file_is_read_by_ranges(server: str, tmp_path: Path) -> None:
    assert fetched(server, tmp_path) == Server.files["/a.bin"]
    assert [ranges for _, ranges in Server.requests] == ["bytes=0-99999", "bytes=100000-199999", "bytes=200000-299999"]


def once(fault: Callable[[Server, bytes], bool]) -> Callable[[Server, bytes], bool]:
    """A fault of the second request only."""
    return lambda handler, data: len(Server.requests) == 2 and fault(handler, data)


def cut_off(handler: Server, data: bytes) -> bool:
    return handler.send_part(data, sent=30_000)


def busy(handler: Server, data: bytes) -> bool:
    return handler.refuse(503)


def silent(handler: Server, data: bytes) -> bool:
    time.sleep(0.6)
    return True


def dribbling(handler: Server, data: bytes) -> bool:
    handler.send_part(data, sent=0)
    for _ in range(40):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("fault", [cut_off, busy, silent])
def test_a_fault_that_passes(
    server: str, tmp_path: Path, fault: Callable[[Server, bytes], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.3)
    Server.fault = once(fault)
    assert fetched(server, tmp_path) == Server.files["/a.bin"]
    if fault is cut_off:
        assert Server.requests[2][1] == "bytes=130000-229999"  # it goes on from there


FAULTS: dict[str, tuple[Callable[[Server, bytes], bool], str]] = {
    "busy": (busy, "503"),
    "silent": (silent, "timed out"),
    "slow": (dribbling, "too slow"),
    "no bytes": (lambda handler, data: handler.send_part(data, sent=0), "breaks off"),
    "no ranges": (lambda handler, data: handler.send_part(data, whole=True), "not send ranges"),
    "another range": (lambda handler, data: handler.send_part(data, shift=7), r"sends the range"),
    "another size": (
        lambda handler, data: handler.send_part(data, total=len(data) + len(Server.requests)),
        "changed while it was read",
    ),
    "too large": (lambda handler, data: handler.send_part(data, total=10**17), "don't fit on the disk"),
    "missing": (lambda handler, data: handler.refuse(404), "404"),
    "endless": (lambda handler, data: handler.redirect("/a.bin"), "more than 5 redirects"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays(server: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(remote, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(remote, "CHUNK_BYTES", 100)
    Server.fault, words = FAULTS[name]
    if name == "slow":
        monkeypatch.setattr(remote, "CHUNK_BYTES", 100_000)
    with pytest.raises(ValueError, match=words):
        fetched(server, tmp_path)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://other.example/a.bin", "host other.example is not allowed"),
        ("http://169.254.169.254/latest", "host 169.254.169.254 is not allowed"),
        ("file:///etc/passwd", "only http"),
        ("ftp://127.0.0.1/a.bin", "only http"),
        ("http://user:secret@127.0.0.1/a.bin", "credentials"),
    ],
)
def test_a_redirect_to_what_is_not_allowed(server: str, tmp_path: Path, location: str, words: str) -> None:
    Server.fault = lambda handler, _: handler.redirect(location)
    with pytest.raises(ValueError, match=words):
        fetched(server, tmp_path)


def test_a_redirect_within_the_host(server: str, tmp_path: Path) -> None:
    Server.files["/b.bin"] = b"moved"
    Server.fault = lambda handler, _: handler.path == "/a.bin" and handler.redirect("/b.bin")
    assert fetched(server, tmp_path) == b"moved"


def test_a_private_address_is_refused_unless_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1 is a private address; refused unless named"):
        fetch_file(f"{server}/a.bin", tmp_path, Network())
    local = server.replace(HOST, "localhost")
    with pytest.raises(ValueError, match="localhost has the private address"):
        fetch_file(f"{local}/a.bin", tmp_path, Network())
    assert fetch_file(f"{local}/a.bin", tmp_path, Network(["localhost"])).stat().st_size == 256_000
    assert not [path for path, _ in Server.requests if path != "/a.bin"]


@pytest.mark.parametrize("address", ["10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1"])
def test_a_name_that_resolves_to_a_private_address(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in ("8.8.8.8", address)]

    def connect(*_: object, **__: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    for allowed in ([], ["other.example"]):
        with pytest.raises(ValueError, match=r"rebound\.example has the private address"):
            fetch_file("http://rebound.example/a.mp4", tmp_path, Network(allowed))


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("8.8.8.8", False), ("2001:4860:4860::8888", False), ("127.0.0.1", True), ("0.0.0.0", True),
        ("100.64.0.1", True),
        ("224.0.0.1", True), ("64:ff9b::a00:1", True), ("64:ff9b::808:808", False), ("2002:a00:1::1", True),
        ("fc00::1", True), ("ff02::1", True),
    ],
)  # fmt: skip
def test_private_addresses(address: str, private: bool) -> None:
    assert is_private(ipaddress.ip_address(address)) is private


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished HLS title of two variants, and a file."""
    folder = tmp_path_factory.mktemp("package")
    source = ["-f", "lavfi", "-i", "testsrc2=s=160x96:r=12:d=2", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12"]
    run_ffmpeg([*source, str(folder / "a.mp4")])
    cut = ["-i", str(folder / "a.mp4"), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"]
    run_ffmpeg([*cut, "-hls_segment_filename", str(folder / "s%d.ts"), str(folder / "v.m3u8")])
    (folder / "all.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900000\nv.m3u8\n")
    return folder


def serve(folder: Path, **changed: str) -> None:
    Server.files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    Server.files |= {f"/{name.replace('_', '.')}": text.encode() for name, text in changed.items()}


def test_the_verbs_read_urls(server: str, package: Path) -> None:
    serve(package)
    allow = ["--allow-network", HOST, "--json"]
    inputs = [f"{server}/a.mp4", str(package / "a.mp4"), f"{server}/all.m3u8", str(package / "all.m3u8")]
    result = CliRunner().invoke(app, ["score", *inputs, *allow])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"] for line in lines] == [*inputs[:2], f"{inputs[2]}#v.m3u8", f"{inputs[3]}#v.m3u8"]
    assert lines[0]["score"] == lines[1]["score"]
    assert lines[2]["score"] == lines[3]["score"]
    refused = CliRunner().invoke(app, ["score", inputs[0]])
    assert refused.exit_code == 1
    assert "refused unless named" in refused.stderr


def test_a_ladder_at_a_url(server: str, package: Path, tmp_path: Path) -> None:
    serve(package)
    title = find_encodes(f"{server}/all.m3u8", tmp_path, network=network())
    assert [(encode.rung.name, encode.rung.height) for encode in title.encodes] == [("v.m3u8", 96)]


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("file:///etc/passwd", "only http"),
        ("http://other.example/s0.ts", "host other.example is not allowed"),
        ("//other.example/s0.ts", "host other.example is not allowed"),
        ("http://169.254.169.254/s0.ts", "is not allowed"),
        ("s3://bucket/s0.ts", "only http"),
        ("data:video/mp2t;base64,AAAA", "only http"),
    ],
)
def test_links_of_a_remote_playlist(server: str, package: Path, link: str, words: str) -> None:
    media = (package / "v.m3u8").read_text().replace("s1.ts", link)
    serve(package, v_m3u8=media)
    (variant,) = read_playlist(f"{server}/all.m3u8", network=network())
    assert re.search(words, variant.problem)
    serve(package, all_m3u8=f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{link.replace('s0.ts', 'v.m3u8')}\n")
    (variant,) = read_playlist(f"{server}/all.m3u8", network=network())
    assert re.search(words, variant.problem)
    assert {path for path, _ in Server.requests} <= {"/all.m3u8", "/v.m3u8"}


def test_segments_of_a_remote_playlist(server: str, package: Path, tmp_path: Path) -> None:
    serve(package)
    (variant,) = read_playlist(f"{server}/all.m3u8?token=1", network=network())
    whole = write_whole(variant, tmp_path / "whole")
    assert whole.read_bytes() == (package / "s0.ts").read_bytes() + (package / "s1.ts").read_bytes()
    del Server.files["/s1.ts"]
    with pytest.raises(ValueError, match="404"):
        write_whole(variant, tmp_path / "whole")


def test_a_local_playlist_follows_no_remote_link(tmp_path: Path) -> None:
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/s0.ts\n#EXT-X-ENDLIST\n")
    [item] = find_inputs([str(tmp_path / "a.m3u8")], network())
    assert "remote; only local files" in item.problem


def test_a_live_title_at_a_url(server: str, package: Path) -> None:
    serve(package)
    arguments = ["watch", f"{server}/all.m3u8", "--window", "1", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--allow-network", HOST])
    kinds = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert (kinds.count("window"), kinds.count("end"), result.exit_code) == (2, 1, 0)
    refused = CliRunner().invoke(app, [*arguments, "--timeout", "0.2"])
    assert refused.exit_code == 1


def test_s3_by_fsspec(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in package.iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())

    class Bucket:
        """The calls of s3fs that are used."""

        def info(self, url: str) -> dict[str, int]:
            """Size."""
            return dict(memory.info(url.removeprefix("s3:/")))

        def exists(self, url: str) -> bool:
            """Whether it is there."""
            return bool(memory.exists(url.removeprefix("s3:/")))

        def cat_file(self, url: str, start: int, end: int) -> bytes:
            """A range."""
            return bytes(memory.cat_file(url.removeprefix("s3:/"), start=start, end=end))

    monkeypatch.setattr(fsspec, "filesystem", lambda _: Bucket())
    assert fetch_file("s3://bucket/a.mp4", tmp_path, Network()).read_bytes() == (package / "a.mp4").read_bytes()
    (variant,) = read_playlist("s3://bucket/all.m3u8")
    assert write_whole(variant, tmp_path / "whole").stat().st_size > 0
    (package / "away.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/s0.ts\n#EXT-X-ENDLIST\n")
    memory.pipe("/bucket/away.m3u8", (package / "away.m3u8").read_bytes())
    with pytest.raises(ValueError, match="only links within the bucket"):
        read_playlist("s3://bucket/away.m3u8")
