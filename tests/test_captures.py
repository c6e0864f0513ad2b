"""Captured masters: the clock of rendered programs, the table beside the packaged model's config, what is refused."""

from __future__ import annotations

import importlib
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]
FPS = 24
# Red is the number of frames that have gone by on the program's own clock, whatever it sleeps; the top row is blue.
PROGRAM = f"""
import ctypes, time
x, gl = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libGL.so.1")
for function in (x.XOpenDisplay, gl.glXChooseVisual, gl.glXCreateContext):
    function.restype = ctypes.c_void_p
for function in (x.XCreateSimpleWindow, x.XDefaultRootWindow):
    function.restype = ctypes.c_ulong
display = ctypes.c_void_p(x.XOpenDisplay(None))
root = ctypes.c_ulong(x.XDefaultRootWindow(display))
window = ctypes.c_ulong(x.XCreateSimpleWindow(display, root, 0, 0, 64, 48, 0, ctypes.c_ulong(0), ctypes.c_ulong(0)))
x.XMapWindow(display, window)
visual = ctypes.c_void_p(gl.glXChooseVisual(display, 0, (ctypes.c_int * 3)(4, 5, 0)))  # RGBA, double buffer
gl.glXMakeCurrent(display, window, ctypes.c_void_p(gl.glXCreateContext(display, visual, None, 1)))
start = None
while True:
    frames = 0 if start is None else round((time.monotonic() - start) * {FPS})
    gl.glDisable(0x0C11)  # no scissor
    gl.glClearColor(ctypes.c_float(frames / 255), *map(ctypes.c_float, (0, 0, 1)))
    gl.glClear(0x4000)
    gl.glEnable(0x0C11)
    gl.glScissor(0, 47, 64, 1)  # OpenGL counts rows from the bottom
    gl.glClearColor(*map(ctypes.c_float, (0, 0, 1, 1)))
    gl.glClear(0x4000)
    gl.glXSwapBuffers(display, window)
    start = start or time.monotonic()
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def captures() -> Iterator[ModuleType]:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("captures")


def test_a_program_is_captured_frame_by_frame_on_its_own_clock(captures: ModuleType, tmp_path: Path) -> None:
    if missing := [name for name in ("cc", "Xvfb", "xdotool") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    rendered = importlib.import_module("capture.rendered")
    clock = rendered.compile_clock(tmp_path)
    video = {"width": 64, "height": 48, "num_frames": 5, "fps": FPS, "timeout_seconds": 60}
    (tmp_path / "program.py").write_text(PROGRAM)
    command = shlex.join([sys.executable, str(tmp_path / "program.py")])
    frames = list(rendered.rendered_frames(rendered.Program(command, skip=4, keys={2: "key a"}), clock, **video))
    assert [frame[-1, 0].tolist() for frame in frames] == [[3 + number, 0, 0] for number in range(5)]
    assert {tuple(frame[0, 0].tolist()) for frame in frames} == {(0, 0, 255)}
    with pytest.raises(ValueError, match=r"ended early.*no display"):
        list(rendered.rendered_frames(rendered.Program("bash -c 'echo no display'"), clock, **video))


def test_the_table_agrees_with_the_config_of_the_packaged_model(captures: ModuleType) -> None:
    config = yaml.safe_load((ROOT / "benchmarks" / "default.yaml").read_text())
    groups = {name: group for group, names in config["sources"]["groups"].items() for name in names}
    for name, capture in captures.CAPTURES.items():
        assert name.startswith(("game_", "page_", "gl_")), name
        assert groups.get(name, capture.group) == capture.group, name
    test = {captures.CAPTURES[name].group for name in config["splits"]["test"] if name in captures.CAPTURES}
    inside = {name for name, capture in captures.CAPTURES.items() if capture.group in test}
    assert inside <= set(config["splits"]["test"])


@pytest.mark.parametrize(("contrast", "speed", "fault"), [(0, 1, "flat"), (255, 0, "still"), (255, 1, None)])
def test_flat_and_still_frames_are_refused(captures: ModuleType, contrast: int, speed: int, fault: str | None) -> None:
    ramp = np.linspace(0, contrast, 64).astype(np.uint8)
    frames = (np.tile(np.roll(ramp, speed * number)[None, :, None], (48, 1, 3)) for number in range(6))
    measured = captures.Measured()
    assert len(list(measured.watch(frames))) == 6
    if fault is None:
        measured.check()
    else:
        with pytest.raises(ValueError, match=fault):
            measured.check()
