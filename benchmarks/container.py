"""Run the build steps of the Dockerfiles without a container engine, and score a clip with what they install.

    python benchmarks/container.py --out benchmarks/results/container.json

The build stage's steps run in a temporary folder in place of the image's root, on this machine's Python, from the files
that .dockerignore lets through. The base image is not part of the size. The gigabytes of the training image's lock are
not installed again: this environment's packages stand in, and those that differ from the lock are named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from rungwise.media.ffmpeg import run_ffmpeg

ROOT = Path(__file__).parents[1]
MAX_MEGABYTES = 275
ROOT_FOLDERS = ("/source", "/opt")
TRAIN_IMPORTS = "import deepspeed, distill.pipeline, student.mamba, teacher.internvideo2, torch"


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    """(instruction, arguments) of each stage."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    parsed = [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]
    starts = [number for number, (instruction, _) in enumerate(parsed) if instruction == "FROM"]
    return [parsed[start:stop] for start, stop in zip(starts, [*starts[1:], len(parsed)], strict=True)]


def read_stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    """The stages of a Dockerfile of this repository."""
    return stages((ROOT / dockerfile).read_text(encoding="utf-8"))


def copied_files(ignore: str) -> Iterator[str]:
    """Tracked files that a .dockerignore lets through."""
    names = [line[1:] for line in (ROOT / ignore).read_text(encoding="utf-8").splitlines() if line[:1] == "!"]
    listing = subprocess.run(["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    yield from listing.stdout.splitlines()


def build(root: Path, dockerfile: str, ignore: str, *, borrow_packages: bool = False) -> None:
    """Run the build stage's steps below `root`; `borrow_packages` uses this environment's in place of the lock's."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    for instruction, arguments in read_stages(dockerfile)[0]:
        words = [sys.executable if word == "python" else word for word in shlex.split(arguments)]
        below = [f"{root}{word}" if word.startswith(ROOT_FOLDERS) else word for word in words]
        if instruction == "COPY":
            for name in copied_files(ignore):
                target = Path(below[-1], name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        elif instruction == "RUN" and borrow_packages and "--require-hashes" in words:
            [packages] = root.glob("opt/rungwise/lib/python*/site-packages")
            (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        elif instruction == "RUN":
            print(" ".join(below), file=sys.stderr)
            subprocess.run(below, env=environment, stdout=sys.stderr, check=True)


def scores(root: Path, dockerfile: str) -> list[float]:
    """Scores of a clip by the image's entry point: as a file, and through a pipe."""
    clip = root / "clip.ts"
    run_ffmpeg(["-f", "lavfi", "-i", "testsrc2=s=640x360:r=24:d=2", "-c:v", "libx264", str(clip)])
    [program] = json.loads(dict(read_stages(dockerfile)[1])["ENTRYPOINT"])
    environment = {"PATH": os.defpath, "HOME": str(root)}
    values = []
    for name in (str(clip), "-"):
        with clip.open("rb") as stream:
            command = [f"{root}{program}", "score", "--json", name]
            done = subprocess.run(command, stdin=stream, env=environment, capture_output=True, check=True)
        values.append(json.loads(done.stdout)["score"])
    return values


def scorer_image(root: Path) -> dict[str, Any]:
    """Size and scores of the scorer's image."""
    build(root, "Dockerfile", ".dockerignore")
    bytecode = sum(path.lstat().st_size for path in (root / "opt").rglob("*.pyc")) / 1e6
    size = sum(path.lstat().st_size for path in (root / "opt").rglob("*")) / 1e6
    return {
        "megabytes": round(size, 1),
        "bytecode_megabytes": round(bytecode, 1),
        "limit_megabytes": MAX_MEGABYTES,
        "scores": scores(root, "Dockerfile"),
    }


def training_image(root: Path) -> dict[str, Any]:
    """Size and scores of the training image, with this environment's packages."""
    build(root, "Dockerfile.train", "Dockerfile.train.dockerignore", borrow_packages=True)
    source = root / "opt/rungwise/source"
    subprocess.run([root / "opt/rungwise/bin/python", "-c", TRAIN_IMPORTS], cwd="/", stdout=sys.stderr, check=True)
    pins = re.findall(
        r"^([\w.-]+)==(\S+)", (source / "requirements-train.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    size, different = sum(path.lstat().st_size for path in source.rglob("*")), []
    for name, version in pins:
        try:
            package = distribution(name)
        except PackageNotFoundError:
            different.append(f"{name}: not installed, {version} locked")
            continue
        if package.version != version:
            different.append(f"{name}: {package.version} installed, {version} locked")
        paths = [Path(str(package.locate_file(file))) for file in package.files or [] if file.suffix != ".pyc"]
        size += sum(path.lstat().st_size for path in paths if path.is_file())
    return {
        "megabytes": round(size / 1e6, 1),
        "packages": len(pins),
        "different": different,
        "scores": scores(root, "Dockerfile.train"),
    }


def main() -> None:
    """Build both, score a clip from a file and through a pipe, and report the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out: Path | None = parser.parse_args().out
    result = {}
    for name, image in (("scorer", scorer_image), ("training", training_image)):
        with tempfile.TemporaryDirectory() as folder:
            result[name] = image(Path(folder))
    print(json.dumps(result))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    values = [score for image in result.values() for score in image["scores"]]
    if result["scorer"]["megabytes"] > MAX_MEGABYTES or len(set(values)) > 1:
        sys.exit(1)


if __name__ == "__main__":
    main()
