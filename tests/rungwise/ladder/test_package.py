"""Packaged renditions: aligned segments, and manifests that ffmpeg and browsers' players open."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import m3u8
import pytest

from rungwise.ladder.encode import CODECS, EncodeSpec, encode
from rungwise.ladder.encodes import find_encodes
from rungwise.ladder.package import DASH, HLS, package
from rungwise.media.ffmpeg import run_ffmpeg

SPECS = {
    "h264_72p": EncodeSpec("h264", 72, crf=36),
    "h264_96p": EncodeSpec("h264", 96, crf=30),  # 170 samples wide, not 170.7
    "h264_144p": EncodeSpec("h264", 144, crf=24),
    "hevc_144p": EncodeSpec("hevc", 144, crf=32, preset="ultrafast"),
    "av1_72p": EncodeSpec("av1", 72, crf=50, preset="12"),
    "av1_144p": EncodeSpec("av1", 144, crf=40, preset="12"),
    "vp9_144p": EncodeSpec("vp9", 144, crf=40),
}
FPS, NUM_FRAMES = 12, 54
NODE_MODULES = Path(__file__).parents[3] / "node_modules"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Renditions of 4.5 seconds: two segments and a half."""
    scratch = tmp_path_factory.mktemp("package")
    master = scratch / "master.mkv"
    pattern = f"testsrc2=size=256x144:rate={FPS}:duration={NUM_FRAMES / FPS}"
    run_ffmpeg(["-f", "lavfi", "-i", pattern, "-vf", "format=yuv420p,setsar=0", "-c:v", "ffv1", str(master)])
    videos = {name: scratch / f"{name}{CODECS[spec.codec].suffix}" for name, spec in SPECS.items()}
    for name, path in videos.items():
        encode(master, path, SPECS[name])
    folder = scratch / "ladder"
    assert package(videos, [spec.codec for spec in SPECS.values()], folder) == (folder / HLS, folder / DASH)
    return folder


def test_key_frames_are_aligned(packaged: Path) -> None:
    assert {path.name for path in packaged.iterdir()} == {HLS, DASH, *SPECS, *(f"{name}.m3u8" for name in SPECS)}
    for name in SPECS:
        with av.open(str(packaged / f"{name}.m3u8")) as container:
            packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
            times = [float((packet.pts or 0) * packet.time_base) for packet in packets]
        keys = [time for time, packet in zip(times, packets, strict=True) if packet.is_keyframe]
        assert [round(key - min(times), 3) for key in keys] == [0.0, 2.0, 4.0], name
        assert len(packets) == NUM_FRAMES


def test_hls_says_what_players_need(packaged: Path) -> None:
    multivariant = m3u8.load(str(packaged / HLS))
    assert [variant.uri for variant in multivariant.playlists] == [f"{name}.m3u8" for name in SPECS]
    assert multivariant.is_independent_segments
    for variant in multivariant.playlists:
        info = variant.stream_info
        assert info.bandwidth >= info.average_bandwidth > 0
        assert (info.frame_rate, bool(info.codecs)) == (FPS, True)
        playlist = m3u8.load(str(packaged / variant.uri))
        assert [segment.duration for segment in playlist.segments] == pytest.approx([2.0, 2.0, 0.5], abs=0.1)
        assert "DATE-TIME" not in (packaged / variant.uri).read_text()
        assert playlist.is_endlist


@pytest.mark.parametrize("manifest", [HLS, DASH])
def test_ffmpeg_and_the_check_read_all_renditions(packaged: Path, manifest: str, tmp_path: Path) -> None:
    for i in range(len(SPECS)):
        log = run_ffmpeg(
            ["-i", f"{packaged.name}/{manifest}", "-map", f"0:v:{i}", "-f", "framemd5", "-"], cwd=packaged.parent
        )
        assert sum(not line.startswith(b"#") for line in log.splitlines()) == NUM_FRAMES
    title = find_encodes(packaged / manifest, tmp_path)
    assert not title.failures
    assert sorted(encode.rung.height for encode in title.encodes) == sorted(spec.height for spec in SPECS.values())


def test_only_new_folders_and_known_codecs(packaged: Path, tmp_path: Path) -> None:
    video = {"a": packaged / "h264_72p" / "init.mp4"}
    with pytest.raises(ValueError, match="not an empty folder"):
        package(video, ["h264"], packaged)
    with pytest.raises(ValueError, match="mpeg4 can't be packaged for players; h264, hevc, av1, vp9 can"):
        package(video, ["mpeg4"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


PLAYERS = {
    "hls.js/dist/hls.min.js": """video => {
        const hls = new Hls({startLevel: window.level, startPosition: 2.5});
        hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) window.errors.push(data.details); });
        hls.on(Hls.Events.MANIFEST_PARSED, () => {
            window.count = hls.levels.length;
            hls.currentLevel = window.level;
            video.play();
        });
        hls.loadSource("master.m3u8");
        hls.attachMedia(video);
        window.stop = () => hls.destroy();
    }""",
    "dashjs/dist/modern/umd/dash.all.min.js": """video => {
        const player = dashjs.MediaPlayer().create();
        player.on("error", event => window.errors.push(event.error.message));
        player.initialize(video, "manifest.mpd", true, 2.5);
        window.count = 1;
        window.stop = () => player.destroy();
    }""",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.mark.parametrize("player", PLAYERS)
def test_players_in_a_browser(packaged: Path, browser: Any, player: str) -> None:
    script = NODE_MODULES / player
    if not script.is_file():
        pytest.skip(f"no {script}: npm install --no-save hls.js dashjs")
    page = browser.new_page()
    page.set_default_timeout(30_000)
    page.route("**/*", lambda route: serve(route, packaged))
    page.goto("http://ladder.test/page.html")
    page.add_script_tag(path=str(script))
    page.evaluate("window.errors = []; window.level = 0;")
    video = page.locator("video").element_handle()
    for level in range(len(SPECS)):
        page.evaluate("level => { window.level = level; }", level)
        page.evaluate(f"video => {{ ({PLAYERS[player]})(video); }}", video)
        page.wait_for_function("document.querySelector('video').currentTime > 3")
        assert video.evaluate("video => video.videoWidth / video.videoHeight") == pytest.approx(256 / 144)
        assert video.evaluate("video => video.duration") == pytest.approx(NUM_FRAMES / FPS, rel=0.03)
        page.evaluate("stop()")
        if level + 1 >= page.evaluate("count"):
            break
    assert page.evaluate("errors") == []
    page.close()


def serve(route: Any, folder: Path) -> None:
    """A file of a folder, or a page with a video."""
    name = route.request.url.removeprefix("http://ladder.test/")
    if name == "page.html":
        route.fulfill(body="<video muted></video>", content_type="text/html")
    else:
        route.fulfill(body=(folder / name).read_bytes())
