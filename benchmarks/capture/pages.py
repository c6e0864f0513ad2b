"""Frames of a page in headless Chromium whose clock steps by one frame at a time."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Route, sync_playwright

SCENES = Path(__file__).parent / "scenes"
HOST = "http://localhost"  # no server: each request is answered with a file
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = "--no-sandbox --hide-scrollbars"
WEBGL = "--use-angle=swiftshader --enable-unsafe-swiftshader --ignore-gpu-blocklist"  # slow for anything else
STEPPED_CLOCK = """
(() => {
  let now = 0, number = 0, waiting = new Map();
  window.requestAnimationFrame = callback => (waiting.set(++number, callback), number);
  window.cancelAnimationFrame = handle => waiting.delete(handle);
  performance.now = () => now;
  Date.now = () => 1.7e12 + now;
  let state = 1;
  Math.random = () => ((state = (state * 48271) % 2147483647) - 1) / 2147483646;
  window.stepClock = ms => {
    now += ms;
    const callbacks = [...waiting.values()];
    waiting.clear();
    for (const callback of callbacks) callback(now);
  };
})()
"""
MOTIONS = {  # what a reader does by frame {f} of {n}: a script that moves the page
    "scroll": "scrollTo(0, {start} + {f} * {speed})",
    "fling": "scrollTo(0, {start} + {speed} * 12 * (1 - Math.exp(-{f} / 12)))",
    "read": "scrollTo(0, {start} + {speed} * Math.floor({f} / 12) * 12 + {speed} * 12 * Math.min(1, ({f} % 12) / 8))",
    "zoom": "document.body.style.zoom = 1 + {f} * {speed} / 1000; scrollTo(0, {start} * (1 + {f} * {speed} / 1000))",
    "none": "0",
}


@dataclass(frozen=True)
class Page:
    """A page and how it moves.

    `path` is a file of this computer, or the name of one of `scenes/`. `start` is where a reader begins, in pixels from
    the top; `speed` is in pixels (zoom: thousandths) per frame. The first `skip` frames are left out.
    """

    path: str
    motion: str = "scroll"
    start: int = 0
    speed: float = 4
    skip: int = 5
    query: str = ""
    webgl: bool = False


def page_frames(
    page: Page, modules: Path | None, *, width: int, height: int, num_frames: int, fps: int, timeout_seconds: float
) -> Iterator[NDArray[np.uint8]]:
    """RGB frames, (height, width, 3). `modules` is the folder in which npm installed three and d3.

    Raises:
        ValueError: there is no Chromium or no such page, or a script of the page fails.
    """
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise ValueError(f"none of {', '.join(CHROMIUM)} is installed")
    path = SCENES / page.path if not page.path.startswith("/") else Path(page.path)
    if not path.is_file():
        raise ValueError(f"no page {path}")
    with sync_playwright() as playwright:
        arguments = f"{ARGUMENTS} {WEBGL if page.webgl else '--disable-gpu'}".split()
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            tab = browser.new_page(viewport={"width": width, "height": height})
            tab.set_default_timeout(timeout_seconds * 1000)
            tab.add_init_script(STEPPED_CLOCK)
            devtools = tab.context.new_cdp_session(tab)
            failures: list[str] = []
            tab.on("pageerror", lambda error: failures.append(str(error)))
            tab.route(f"{HOST}/**", lambda route: _answer(route, modules))
            tab.goto(f"{HOST}{path}?{page.query}")
            tab.wait_for_function(
                "document.readyState == 'complete' && !window.loading", polling=100
            )  # frames stand still
            for frame in range(page.skip + num_frames):
                values = {"f": frame, "n": num_frames, "start": page.start, "speed": page.speed}
                tab.evaluate(f"stepClock({1000 / fps}); {MOTIONS[page.motion].format(**values)}")
                if failures:
                    raise ValueError(f"{path}: {failures[0]}")
                if frame >= page.skip:
                    picture = devtools.send("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": True})
                    yield np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["data"]))).convert("RGB"))
        finally:
            browser.close()


def _answer(route: Route, modules: Path | None) -> None:
    """Answer with the file that an address names: /modules/ lies in `modules`, everything else on this computer."""
    path = Path(unquote(urlsplit(route.request.url).path))
    if path.is_relative_to("/modules") and modules is not None:
        path = modules / path.relative_to("/modules")
    if path.is_file():
        route.fulfill(path=path)
    else:
        route.fulfill(status=404, body="")
