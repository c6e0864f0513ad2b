"""Many videos through one scorer: side by side, results in the order asked for, and from a cache where there is one."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from rungwise.artifact import sha256_file, sha256_json, write_text
from rungwise.failures import failure
from rungwise.score.contract import CONTRACT_VERSION
from rungwise.score.inputs import PIPE, Input, join_variant
from rungwise.score.score_video import Hdr
from rungwise.score.scorer import SCORER_VERSION, Score, Scorer, Window
from rungwise.score.timeline import CutFinder
from rungwise.score.views import VIEWS_VERSION


@dataclass(frozen=True)
class Options:
    """How every video of a batch is scored. All of it can change a result."""

    display_height: int | None = None
    hdr: Hdr = "refuse"
    timeline_seconds: float | None = None
    find_cuts: bool = False
    pixel_only: bool = False


@dataclass(frozen=True)
class Result:
    """A score, and the times of scene cuts where they were looked for; or why there is none."""

    name: str
    score: Score | None = None
    cuts: tuple[float, ...] | None = None
    error: str = ""


def score_all(
    scorer: Scorer,
    inputs: Iterable[Input],
    options: Options,
    *,
    pipe: IO[bytes] | None = None,
    jobs: int = 1,
    cache: Path | None = None,
) -> Iterator[Result]:
    """Results in the inputs' order, each as soon as it and those before it are there."""
    model = sha256_file(scorer.path) if cache is not None else ""

    def work(found: Input) -> Result:
        try:
            return _score_one(scorer, found, options, pipe, cache, model)
        except Exception as error:
            return Result(found.name, error=failure(found.name, error))

    if jobs == 1:
        yield from map(work, inputs)
        return
    # Threads, for decoder and model work outside the interpreter's lock; and but a few ahead, for lists without end.
    with ThreadPoolExecutor(jobs) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for found in inputs:
                waiting.append(pool.submit(work, found))
                while waiting and (len(waiting) > 2 * jobs or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score_one(
    scorer: Scorer, found: Input, options: Options, pipe: IO[bytes] | None, cache: Path | None, model: str
) -> Result:
    if found.problem:
        raise ValueError(found.problem)
    if found.name == PIPE:
        if pipe is None:
            raise ValueError(f"{PIPE}: stdin is closed; give it a y4m stream")
        return _look(scorer, pipe, found.name, options)
    assert found.path is not None
    if found.variant is not None:
        with tempfile.TemporaryDirectory() as folder:
            return _kept(scorer, join_variant(found, Path(folder)), found.name, options, cache, model)
    return _kept(scorer, found.path, found.name, options, cache, model)


def _look(scorer: Scorer, source: Path | IO[bytes], name: str, options: Options) -> Result:
    finder = CutFinder() if options.find_cuts else None
    score = scorer.score(
        source,
        display_height=options.display_height,
        hdr=options.hdr,
        timeline_seconds=options.timeline_seconds,
        name=name,
        watch=finder.look if finder else None,
        pixel_only=options.pixel_only,
    )
    return Result(name, score, finder.cuts() if finder else None)


def _kept(scorer: Scorer, path: Path, name: str, options: Options, cache: Path | None, model: str) -> Result:
    if cache is None or not path.is_file():
        return _look(scorer, path, name, options)
    key = sha256_json(
        {
            "video": sha256_file(path),
            "model": model,
            "options": asdict(options),
            "device": scorer.session.get_providers()[0],
            "threads": scorer.threads,
            "versions": [SCORER_VERSION, VIEWS_VERSION, CONTRACT_VERSION],
        }
    )
    kept = cache / key[:2] / f"{key}.json"
    result = _read_kept(kept, name)
    if result is None:
        result = _look(scorer, path, name, options)
        assert result.score is not None
        write_text(kept, json.dumps({"score": asdict(replace(result.score, path="")), "cuts": result.cuts}) + "\n")
    return result


def _read_kept(kept: Path, name: str) -> Result | None:
    try:
        values: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        score = values["score"]
        for lengths in ("windows", "timeline"):
            score[lengths] = tuple(_window(window) for window in score[lengths])
        score["notes"] = tuple(score["notes"])
        return Result(name, Score(**{**score, "path": name}), None if values["cuts"] is None else tuple(values["cuts"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or written by another version: made anew
        return None


def _window(values: dict[str, Any]) -> Window:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Window(**fields)
