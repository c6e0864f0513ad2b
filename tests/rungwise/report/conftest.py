"""Pages in headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OpenPage = Callable[[Path, int], AbstractContextManager[Any]]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> OpenPage:
    """A file in a window of some width, with touch on narrow ones: no message, no request, nothing beyond its width."""

    @contextmanager
    def opened(path: Path, width: int) -> Iterator[Any]:
        messages: list[str] = []
        requests: list[str] = []
        page = browser.new_page(viewport={"width": width, "height": 800}, has_touch=width < 500)
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        try:
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            yield page
            assert not messages
            assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        finally:
            page.close()

    return opened


@pytest.fixture
def hover_text() -> Callable[[Any, Any], str]:
    """The text shown for a point when it is touched or pointed at, inside the window; it goes away afterwards."""

    def shown(page: Any, point: Any) -> str:
        width = page.viewport_size["width"]
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        at = box["x"] + box["width"] / 2 + 1, box["y"] + box["height"] / 2 + 1
        (page.touchscreen.tap if width < 500 else page.mouse.move)(*at)
        tip = page.locator("#tip")
        assert tip.is_visible()
        text: str = tip.inner_text()
        box = tip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        (page.touchscreen.tap if width < 500 else page.mouse.click)(3, 3)
        assert tip.is_hidden()
        return text

    return shown
