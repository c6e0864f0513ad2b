"""Run the steps of the Dockerfile without a container engine, and score a clip with what they install.

    python benchmarks/container.py --out benchmarks/results/container.json

The build stage's steps run in a temporary folder in place of the image's root, on this machine's Python, from the files
that .dockerignore lets through. The base image is not part of the size.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rungwise.media.ffmpeg import run_ffmpeg

ROOT = Path(__file__).parents[1]
MAX_MEGABYTES = 275
ROOT_FOLDERS = ("/source", "/opt")


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    """(instruction, arguments) of each stage."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    parsed = [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]
    starts = [number for number, (instruction, _) in enumerate(parsed) if instruction == "FROM"]
    return [parsed[start:stop] for start, stop in zip(starts, [*starts[1:], len(parsed)], strict=True)]


def copied_files() -> Iterator[str]:
    """Tracked files that .dockerignore lets through."""
    names = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    listing = subprocess.run(["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    yield from listing.stdout.splitlines()


def build(root: Path) -> None:
    """Run the build stage's steps below `root`."""
    for name in copied_files():
        target = root / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    (root / "opt").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for instruction, arguments in stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))[0]:
        if instruction == "RUN":
            words = [sys.executable if word == "python" else word for word in shlex.split(arguments)]
            below = [f"{root}{word}" if word.startswith(ROOT_FOLDERS) else word for word in words]
            print(" ".join(below), file=sys.stderr)
            subprocess.run(below, env=environment, stdout=sys.stderr, check=True)


def main() -> None:
    """Build, score a clip from a file and through a pipe, and report the size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out: Path | None = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        build(root)
        clip = root / "clip.ts"
        run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=640x360:r=24:d=2", "-c:v", "libx264", str(clip)])
        entry = json.loads(dict(stages((ROOT / "Dockerfile").read_text(encoding="utf-8"))[1])["ENTRYPOINT"])
        command = [f"{root}{entry[0]}", "score", "--json"]
        environment = {"PATH": os.defpath, "HOME": str(root)}
        scores = []
        for name in (str(clip), "-"):
            with clip.open("rb") as stream:
                done = subprocess.run([*command, name], stdin=stream, env=environment, capture_output=True, check=True)
            scores.append(json.loads(done.stdout)["score"])
        bytecode = sum(path.lstat().st_size for path in (root / "opt").rglob("*.pyc")) / 1e6
        size = sum(path.lstat().st_size for path in (root / "opt").rglob("*")) / 1e6
    result = {
        "megabytes": round(size, 1),
        "bytecode_megabytes": round(bytecode, 1),
        "limit_megabytes": MAX_MEGABYTES,
        "scores": scores,
    }
    print(json.dumps(result))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if size > MAX_MEGABYTES or scores[0] != scores[1]:
        sys.exit(1)


if __name__ == "__main__":
    main()
