"""Frames of an OpenGL program, rendered by software under Xvfb with a clock that steps by one frame at a time."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLOCK = Path(__file__).parent / "clock.c"
PROGRAMS = "/usr/games:/usr/libexec/xscreensaver:/usr/lib/xscreensaver"
SILENT = {"SDL_AUDIODRIVER": "dummy", "ALSOFT_DRIVERS": "null", "LIBGL_ALWAYS_SOFTWARE": "1", "LP_NUM_THREADS": "1"}
HEADER_BYTES = 8  # width and height
POLL_MS = 500


@dataclass(frozen=True)
class Program:
    """A program and how it is run.

    `command` is run by a shell in a home folder of its own that holds `files` (path -> text); {width}, {height} and
    {home} are filled in. The first `skip` frames are left out. `keys` are arguments of xdotool by the frame before
    which they are sent.
    """

    command: str
    skip: int = 30
    files: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[int, str] = field(default_factory=dict)


def compile_clock(folder: Path) -> Path:
    """The shared library of clock.c."""
    library = folder / "clock.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(CLOCK), "-o", str(library), "-ldl", "-lpthread"], check=True)
    return library


@contextmanager
def display(width: int, height: int) -> Iterator[str]:
    """The name of an X display of this size, for as long as the context lasts."""
    reader, writer = os.pipe()
    screen = ["-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-displayfd", str(writer)]
    server = subprocess.Popen(["Xvfb", *screen], pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        with os.fdopen(reader) as lines:
            yield f":{lines.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def rendered_frames(
    program: Program, clock: Path, *, width: int, height: int, num_frames: int, fps: int, timeout_seconds: float
) -> Iterator[NDArray[np.uint8]]:
    """RGB frames, (height, width, 3).

    Raises:
        ValueError: the program ends early, is silent for `timeout_seconds`, or draws another size.
    """
    with tempfile.TemporaryDirectory() as folder, display(width, height) as name:
        home = Path(folder)
        for path, text in program.files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text.format(width=width, height=height, home=home), encoding="utf-8")
        fifo = home / ".capture"
        os.mkfifo(fifo)
        settings = {"FPS": fps, "SKIP": program.skip, "FRAMES": num_frames, "PIPE": fifo}
        environment = os.environ | SILENT | {f"CAPTURE_{key}": str(value) for key, value in settings.items()}
        environment |= {"DISPLAY": name, "HOME": folder, "XDG_RUNTIME_DIR": folder, "LC_ALL": "C.UTF-8"}
        environment |= {"PATH": f"{environment['PATH']}:{PROGRAMS}"}
        command = program.command.format(width=width, height=height, home=home)
        log = home / ".log"
        with log.open("wb") as output:
            shell = f"export LD_PRELOAD={shlex.quote(str(clock))}; exec {command}"
            process = subprocess.Popen(
                ["bash", "-c", shell], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            with _Pipe(fifo, process, timeout_seconds) as pipe:
                yield from _read(pipe, program, environment, (width, height), num_frames)
        except ValueError as error:
            last_lines = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ValueError(f"{error}; the program's last lines: {' | '.join(last_lines)}") from error
        finally:
            with suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL)  # the session of its own that was started above
            process.wait()


class _Pipe:
    """What a program writes to a named pipe."""

    def __init__(self, fifo: Path, process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        self.process, self.timeout_seconds = process, timeout_seconds
        self.stream = os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def read(self, num_bytes: int) -> bytes:
        """Exactly `num_bytes`.

        Raises:
            ValueError: the program ends, or writes nothing for `timeout_seconds`.
        """
        parts: list[bytes] = []
        waiter = select.poll()
        waiter.register(self.stream, select.POLLIN)
        give_up = time.monotonic() + self.timeout_seconds
        while (missing := num_bytes - sum(map(len, parts))) > 0:
            has_ended = self.process.poll() is not None  # asked before the pipe, which may hold the last bytes
            if waiter.poll(POLL_MS) and (part := self.stream.read(missing)):
                parts.append(part)
            elif has_ended:
                raise ValueError("it ended early")
            elif time.monotonic() > give_up:
                raise ValueError(f"no frame within {self.timeout_seconds:g} s")
        return b"".join(parts)


def _read(
    pipe: _Pipe, program: Program, environment: Mapping[str, str], size: tuple[int, int], num_frames: int
) -> Iterator[NDArray[np.uint8]]:
    for number in range(program.skip + num_frames):
        if number in program.keys:
            subprocess.run(["xdotool", *shlex.split(program.keys[number])], env=environment, check=True)
        width, height = (int(value) for value in np.frombuffer(pipe.read(HEADER_BYTES), np.int32))
        if number < program.skip:
            continue
        if (width, height) != size:
            raise ValueError(f"the window is {width}x{height}, not {size[0]}x{size[1]}")
        rgba = np.frombuffer(pipe.read(4 * width * height), np.uint8)
        yield np.ascontiguousarray(rgba.reshape(height, width, 4)[::-1, :, :3])
