"""Score many videos with one scorer: in parallel, results in input order, with an optional cache."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from rungwise.artifact import sha256_file, sha256_json, write_text
from rungwise.bitstream.encoder_stats import EncoderStats
from rungwise.failures import failure
from rungwise.media.remote import Network
from rungwise.media.remote_files import fetch_file
from rungwise.score.contract import CONTRACT_VERSION
from rungwise.score.inputs import PIPE, Input, join_variant
from rungwise.score.result import Score, Window
from rungwise.score.scorer import SCORER_VERSION, Scorer
from rungwise.score.timeline import SceneCutDetector
from rungwise.score.video_metadata import Hdr
from rungwise.score.views import VIEWS_VERSION


@dataclass(frozen=True)
class Options:
    """Options of a whole batch. Every field can change a result and is part of the cache key."""

    display_height: int | None = None
    hdr: Hdr = "refuse"
    timeline_seconds: float | None = None
    find_cuts: bool = False
    pixel_only: bool = False


NamedWindowCallback = Callable[[str, Window, bool], None]  # video, window, whether its score is hybrid


@dataclass(frozen=True)
class Live:
    """What goes with a stream, and what happens to windows while a video is scored.

    Attributes:
        on_window: called with each window as soon as it is scored.
        keep_windows: whether scores hold their windows; without them, memory does not grow with a pipe's length.
        encoder_stats: bitstream data of the y4m stream of input "-".
    """

    on_window: NamedWindowCallback | None = None
    keep_windows: bool = True
    encoder_stats: EncoderStats | None = None


@dataclass(frozen=True)
class Result:
    """A score with scene cut times in seconds (None unless requested), or the error that prevented it."""

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
    live: Live = Live(),
    network: Network | None = None,
) -> Iterator[Result]:
    """Yield results in input order, each as soon as it and all before it are done.

    Args:
        scorer: the model.
        inputs: the videos; read lazily.
        options: of the whole batch.
        pipe: the stream of input "-".
        jobs: videos scored in parallel.
        cache: folder of cached scores; None for no cache.
        live: what happens to windows; cached scores have none to call it with.
        network: what may be read of inputs that are URLs.
    """
    model_sha256 = sha256_file(scorer.path) if cache is not None else ""

    def score_input(item: Input) -> Result:
        try:
            return _score_input(scorer, item, options, pipe, cache, model_sha256, live, network or Network())
        except Exception as error:
            return Result(item.name, error=failure(item.name, error))

    if jobs == 1:
        yield from map(score_input, inputs)
        return
    # Threads suffice: decoder and model release the GIL. Only a few jobs run ahead, so that `inputs` may be endless.
    with ThreadPoolExecutor(jobs) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in inputs:
                pending.append(pool.submit(score_input, item))
                while pending and (len(pending) > 2 * jobs or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _score_input(
    scorer: Scorer,
    item: Input,
    options: Options,
    pipe: IO[bytes] | None,
    cache: Path | None,
    model_sha256: str,
    live: Live,
    network: Network,
) -> Result:
    if item.problem:
        raise ValueError(item.problem)
    if item.name == PIPE:
        if pipe is None:
            raise ValueError(f"{PIPE}: stdin is closed; pipe a video to it")
        return _score(scorer, pipe, item.name, options, live)
    if item.variant is not None or item.url:
        with tempfile.TemporaryDirectory() as folder:
            path = fetch_file(item.url, Path(folder), network) if item.url else join_variant(item, Path(folder))
            return _cached_score(scorer, path, item.name, options, cache, model_sha256, live)
    assert item.path is not None
    return _cached_score(scorer, item.path, item.name, options, cache, model_sha256, live)


def _score(scorer: Scorer, source: Path | IO[bytes], name: str, options: Options, live: Live) -> Result:
    detector = SceneCutDetector() if options.find_cuts else None
    report = live.on_window
    score = scorer.score(
        source,
        display_height=options.display_height,
        hdr=options.hdr,
        timeline_seconds=options.timeline_seconds,
        name=name,
        on_frame=detector.add_frame if detector else None,
        pixel_only=options.pixel_only,
        on_window=None if report is None else lambda window, is_hybrid: report(name, window, is_hybrid),
        keep_windows=live.keep_windows,
        encoder_stats=live.encoder_stats if name == PIPE else None,
    )
    return Result(name, score, detector.cut_times() if detector else None)


def _cached_score(
    scorer: Scorer, path: Path, name: str, options: Options, cache: Path | None, model_sha256: str, live: Live
) -> Result:
    if cache is None or not path.is_file():
        return _score(scorer, path, name, options, live)
    key = sha256_json(
        {
            "video": sha256_file(path),
            "model": model_sha256,
            "options": asdict(options),
            "device": scorer.session.get_providers()[0],
            "threads": scorer.threads,
            "versions": [SCORER_VERSION, VIEWS_VERSION, CONTRACT_VERSION],
        }
    )
    cached_path = cache / key[:2] / f"{key}.json"
    result = _read_cached(cached_path, name)
    if result is None:
        result = _score(scorer, path, name, options, live)
        assert result.score is not None
        values = {"score": asdict(replace(result.score, path="")), "cuts": result.cuts}
        write_text(cached_path, json.dumps(values) + "\n")
    return result


def _read_cached(path: Path, name: str) -> Result | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        score = values["score"]
        for field in ("windows", "timeline"):
            score[field] = tuple(_window(window) for window in score[field])
        score["notes"] = tuple(score["notes"])
        return Result(name, Score(**{**score, "path": name}), None if values["cuts"] is None else tuple(values["cuts"]))
    except (OSError, ValueError, KeyError, TypeError):  # not cached, or damaged: score the video
        return None


def _window(values: dict[str, Any]) -> Window:
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Window(**fields)
