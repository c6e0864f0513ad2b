"""The page that scores videos in the browser: the scorer's own windows, places and scores."""

from __future__ import annotations

import functools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rungwise.media.ffmpeg import run_ffmpeg
from rungwise.report.web_page import PACKAGES, write_web_page
from rungwise.score.scorer import Scorer
from rungwise.score.views import ViewRecipe, place_view
from rungwise.score.windows import cut_windows

X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "0"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12"]
CLIPS: dict[str, tuple[str, list[str]]] = {  # name -> size and duration, encoder
    "h264.mp4": ("s=426x240:d=7", [*X264, "-crf", "36", "-bf", "2"]),
    "vp9.webm": ("s=426x240:d=2", [*VP9, "-crf", "50"]),
    "av1_10_bit.mkv": ("s=320x240:d=2", [*AV1, "-crf", "50", "-pix_fmt", "yuv420p10le"]),
    "full_range.mov": ("s=426x240:d=2", ["-vf", "scale=out_range=full,format=yuv420p", *X264, "-color_range", "pc"]),
    "black.mp4": ("s=320x240:d=9,drawbox=w=iw:h=ih:c=black:t=fill:enable='between(t,1,8.5)'", [*X264, "-crf", "36"]),
    "bt601.ts": ("s=426x240:d=2,setsar=4/3", [*X264, "-crf", "36", "-colorspace", "smpte170m"]),
}
REFUSED = {
    "pq.mkv": "HDR video (PQ); the model supports SDR only",
    "text.mp4": "not a video that this page can read",
}
TOLERANCE = 1.0  # an int8 model turns single code values into several tenths of a point


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, (source, encoder) in CLIPS.items():
        pattern = ["-f", "lavfi", "-i", f"testsrc2=r=12:{source},noise=alls=10:allf=t"]
        run_ffmpeg([*pattern, "-pix_fmt", "yuv420p", *encoder, str(folder / name)])
    turned = ["-display_rotation", "90", "-i", str(folder / "full_range.mov"), "-c", "copy"]
    run_ffmpeg([*turned, str(folder / "rotated.mp4")])
    pq = ["-vf", "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc", "-pix_fmt", "yuv420p10le"]
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=64x64:r=12:d=0.2", *pq, *X264, str(folder / "pq.mkv")])
    (folder / "text.mp4").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def site(web_page: Path) -> Iterator[str]:
    """Address of the packaged model's page."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=web_page)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(browser: Any, site: str) -> Iterator[Any]:
    """The page on a phone: no message, no request to another host."""
    messages: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 800}, accept_downloads=True)
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(site)
    yield page
    page.close()
    assert not messages
    assert [url for url in requests if not url.startswith((site, "data:", f"blob:{site}"))] == []


@pytest.mark.browser
def test_scores_are_the_scorers(page: Any, clips: Path, tmp_path: Path) -> None:
    names = [*CLIPS, "rotated.mp4"]
    page.set_input_files("#files", [str(clips / name) for name in (*names, *REFUSED)])
    page.select_option("#height", "480")
    page.set_input_files("#files", str(clips / "bt601.ts"))
    page.wait_for_function("document.querySelectorAll('progress').length === 0", timeout=300_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for number, reason in enumerate(REFUSED.values(), len(names)):
        assert page.locator(f"#video-{number} .error").inner_text() == reason
    scorer = Scorer()
    results = downloaded(page, "#comparison", "json")
    assert sorted(result["path"] for result in results) == sorted([*names, "bt601.ts"])
    assert any((result["path"], result["display_height"]) == ("bt601.ts", 480) for result in results)
    for result in results:
        height = result["display_height"]
        expected = scorer.score(clips / result["path"], pixel_only=True, display_height=height)
        for key in ("score", "low", "high"):
            assert result[key] == pytest.approx(getattr(expected, key), abs=TOLERANCE), (result["path"], key)
        for key in ("width", "height", "display_height", "frames_used", "kind", "polarity"):
            assert result[key] == getattr(expected, key), (result["path"], key)
        assert [window["flat"] for window in result["timeline"]] == [window.flat for window in expected.windows]
        for window, expected_window in zip(result["timeline"], expected.windows, strict=True):
            assert window["score"] == pytest.approx(expected_window.score, abs=2 * TOLERANCE)
            assert window["end_seconds"] == pytest.approx(expected_window.end_seconds, abs=0.1)
    assert page.locator("#comparison tbody tr").count() == len(results)
    assert "240p" in page.locator("#heights").inner_text()
    assert "480p" in page.locator("#heights").inner_text()
    assert page.locator("#video-0 .frames img").count() == 2
    assert downloaded(page, "#video-0", "csv").startswith("path,score,low,high,band")


def downloaded(page: Any, within: str, kind: str) -> Any:
    """What a button saves."""
    with page.expect_download() as download:
        page.locator(f"{within} [data-save={kind}]").click()
    text = Path(download.value.path()).read_text()
    return json.loads(text) if kind == "json" else text


@pytest.mark.browser
def test_windows_frames_and_places_are_the_scorers(page: Any) -> None:
    recipes = [Scorer(check=False).contract.view, ViewRecipe(num_frames=4, frame_choice="uniform", grid=2, patch_px=32)]
    times = [[i / 25 for i in range(count)] for count in (1, 99, 151, 260)]
    script = """async ([recipes, times]) => {
        const { chooseFrames, cutWindows, patchCorners } = await import("./views.js");
        return {
            windows: times.map(list => cutWindows(list).map(({first, stop}) => [first, stop])),
            frames: recipes.map(recipe => [1, 2, 3, 7, 100].map(count => chooseFrames(recipe, count))),
            corners: await Promise.all(recipes.flatMap(recipe => [0, 1, 900].map(
                number => patchCorners(recipe, number, 853, 41)))),
        };
    }"""
    there = page.evaluate(script, [[recipe.model_dump() for recipe in recipes], times])
    assert there["windows"] == [[list(window) for window in cut_windows(of, 4.0)] for of in times]
    assert there["frames"] == [
        [list(recipe.choose_frames(count, np.empty(0))) for count in (1, 2, 3, 7, 100)] for recipe in recipes
    ]
    assert there["corners"] == [
        [list(corner) for corner in place_view(recipe, number, (853, 41), (0,), (0.0,)).corners_yx]
        for recipe in recipes
        for number in (0, 1, 900)
    ]


def test_what_it_refuses(tmp_path: Path, model: Path) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "page"
    cache.mkdir()
    (cache / PACKAGES[0].tarball).write_bytes(b"another package")
    with pytest.raises(ValueError, match=r"onnxruntime-web-1.*not the pinned onnxruntime-web"):
        write_web_page(folder, model, cache)
    assert not folder.exists()
    folder.mkdir()
    shutil.copy(model, folder)
    with pytest.raises(ValueError, match="not an empty folder"):
        write_web_page(folder, model, cache)
