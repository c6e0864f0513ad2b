"""A labeled dataset with its views, and what all training stages have in their keys and contracts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from distill import rated_maps
from distill.batches import bitrate_groups
from distill.examples import Examples
from distill.stage import constants
from distill.view_store import open_pixels
from rungwise.artifact import Artifact, StageKey
from rungwise.bitstream.features import (
    BITSTREAM_INPUT_DIM,
    NUM_BITSTREAM_FEATURES,
    bitstream_input,
    features_from_packets,
)
from rungwise.bitstream.qp import QstepReader
from rungwise.config import RunConfig
from rungwise.dataset_table import assign_splits
from rungwise.datasets.rated import split_sets
from rungwise.ladder.make import read_ladder
from rungwise.media.packets import read_packets
from rungwise.progress import track
from rungwise.ranks import ranks
from rungwise.score.contract import Contract, Scale, SetMap
from teacher.shard_files import ShardedArray, StoredRows


@dataclass(frozen=True)
class Data:
    """A labeled dataset, its views, and what its scores are."""

    table: pd.DataFrame
    ladder: Artifact
    views: Artifact
    scale: Scale
    patch_px: int
    frames_each: int  # 2 where frames come in pairs of neighbors
    bitstream: NDArray[np.float64] | None = None  # `stream` where it has been read before

    @property
    def range(self) -> dict[str, float]:
        """The scale's ends, as models take them."""
        return {"minimum": self.scale.minimum, "maximum": self.scale.maximum}

    @property
    def sets(self) -> tuple[SetMap, ...]:
        """The data sets that are trained on together, none moved yet; empty where there is one alone."""
        if "dataset" not in self.table or self.table["dataset"].nunique() < 2:
            return ()
        columns = ["own_score_kind", "own_score_polarity", "own_score_min", "own_score_max"]
        first = self.table.drop_duplicates("dataset")
        scales = zip(*(first[name] for name in columns), strict=True)
        return tuple(
            SetMap(name=name, own=Scale(kind=kind, polarity=polarity, minimum=minimum, maximum=maximum))
            for name, (kind, polarity, minimum, maximum) in zip(first["dataset"], scales, strict=True)
        )

    @property
    def set_numbers(self) -> NDArray[np.int64]:
        """Each row's number in `sets`, (N,)."""
        return np.asarray(self.table["dataset"].map({each.name: number for number, each in enumerate(self.sets)}))

    def shared_labels(self, rows: NDArray[np.int64], sets: tuple[SetMap, ...]) -> NDArray[np.float64]:
        """Labels of these rows as a model's exported scores have them, by the inverse of its sets' maps."""
        labels = self.table["score"].to_numpy(float)[rows]
        if not sets:
            return labels
        scale, offset = np.array([(each.scale, each.offset) for each in sets]).T[:, self.set_numbers[rows]]
        return rated_maps.on_shared_scale(labels, scale, offset, self.scale)

    @property
    def classes(self) -> NDArray[np.int64]:
        """One class for each codec and rung; a clip of unknown origin is a class of its own (CONVIQT)."""
        table = self.table
        fraction = (table["height"] / table["display_height"]).round(2)  # 134 of 270 lines are half
        known = table["rate_control"].fillna("") != ""
        names = [
            f"{codec} {rate} {size}" if is_known else f"clip {clip}"
            for codec, rate, size, is_known, clip in zip(
                table["codec"], table["rate_control"], fraction, known, table["clip"], strict=True
            )
        ]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    @property
    def stream(self) -> NDArray[np.float64]:
        """Bitstream features of each clip, (N, NUM_BITSTREAM_FEATURES); NaN for a clip of unknown origin."""
        if self.bitstream is not None:
            return self.bitstream
        columns = ("path", "rate_control", "width", "height", "display_height")
        return _bitstream_features(tuple(zip(*(self.table[name].fillna("") for name in columns), strict=True)))

    @property
    def reencoded(self) -> NDArray[np.bool_]:
        """Which clips are re-encodes, (N,); false where that is unknown."""
        if "first_crf" not in self.table:
            return np.zeros(len(self.table), bool)
        return np.asarray(self.table["first_crf"].notna())

    def terms(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """`bitstream_input` of these rows."""
        return bitstream_input(self.stream[rows], list(self.table["codec"].iloc[rows]))

    @property
    def pixels(self) -> ShardedArray:
        """pixels_NVTSSC uint8 in table order."""
        return open_pixels(self.views)

    def rows(self, *splits: str, labeled: bool = True) -> NDArray[np.int64]:
        """Row numbers of these splits; with `labeled` false, their unlabelled clips too."""
        chosen = self.table["split"].isin(splits)
        if labeled:
            chosen &= self.table["score"].notna()
        return np.flatnonzero(chosen.to_numpy())

    def examples(
        self,
        *splits: str,
        targets: Mapping[str, ShardedArray] | None = None,
        labeled: bool = True,
        num_groups: int | None = None,
        inputs: NDArray[Any] | None = None,
        reencoded_weight: float | None = None,
    ) -> Examples:
        """These splits' labels, and their pixels and the teacher's targets (in table order), if given, read by batch.

        With a `reencoded_weight` the bitstream features are read too; re-encodes have that weight in their loss.
        `inputs` replace the pixels: the frozen layers' output of every view, in table order.

        Without `num_groups` no bitrate is read, and no clip has a bitrate group.
        """
        rows = self.rows(*splits, labeled=labeled)
        blank = np.full((len(rows), BITSTREAM_INPUT_DIM), np.nan, np.float32)
        groups = np.full(len(self.table), -1, dtype=np.int64)
        if num_groups is not None:
            known = self.table[self.table["bitrate_kbps"].notna() | self.table["rate_control"].fillna("").ne("")]
            bitrates = known["bitrate_kbps"].to_numpy(float)
            groups[self.table.index.isin(known.index)] = bitrate_groups(list(known["content"]), bitrates, num_groups)
        return Examples(
            inputs=StoredRows(self.pixels if inputs is None else inputs, rows),
            scores=self.table["score"].to_numpy(np.float32)[rows],
            contents=tuple(self.table["content"].iloc[rows]),
            codecs=tuple(self.table["codec"].iloc[rows]),
            classes=self.classes[rows],
            groups=groups[rows],
            patch_px=self.patch_px,
            frames_each=self.frames_each if inputs is None else 1,
            stream=blank if reencoded_weight is None else self.terms(rows),
            stream_weights=np.where(self.reencoded[rows], reencoded_weight or 1, 1).astype(np.float32),
            targets={name: StoredRows(values, rows) for name, values in (targets or {}).items()},
            sets=self.set_numbers[rows] if self.sets else None,
        )


@functools.lru_cache(maxsize=2)
def _bitstream_features(rows: tuple[tuple[Any, ...], ...]) -> NDArray[np.float64]:
    """Bitstream features of files given as path, rate control, width, height, display height; read once a process."""
    with ThreadPoolExecutor(ranks().workers) as pool:
        return np.stack([*track(pool.map(_features_of_file, rows), "bitstream features", total=len(rows))])


def _features_of_file(row: tuple[Any, ...]) -> NDArray[np.float64]:
    path, rate_control, width, height, display_height = row
    if not rate_control:
        return np.full(NUM_BITSTREAM_FEATURES, np.nan)
    packets = read_packets(Path(path), QstepReader)
    return features_from_packets(packets, int(width * height), int(height), int(display_height))


def read_data(config: RunConfig, ladder: Artifact, views: Artifact) -> Data:
    """A ladder, split by source group, with its views."""
    table = read_ladder(ladder)
    labeled = table[table["score"].notna()]
    if config.sources.dataset:
        table["split"] = split_sets(table, config.splits)
    else:
        groups = dict(zip(labeled["content"], labeled["group"], strict=True))
        table["split"] = table["content"].map(assign_splits(groups, **config.splits.model_dump())).fillna("train")
    first = labeled.iloc[0]
    scale = Scale(
        kind=first["score_kind"],
        polarity=first["score_polarity"],
        minimum=float(first["score_min"]),
        maximum=float(first["score_max"]),
    )
    recipe = config.views.recipe
    return Data(table, ladder, views, scale, recipe.patch_px, recipe.choice.frames_per_step)


def training_params(config: RunConfig) -> dict[str, Any]:
    """What of the config changes the result of any stage that trains."""
    params = {"seed": config.seed, "splits": config.splits.model_dump(mode="json")}
    return params | ({"rated_maps": constants(rated_maps)} if config.sources.dataset else {})


def make_contract(
    config: RunConfig, data: Data, key: StageKey, model: str, history: Sequence[Mapping[str, float]]
) -> Contract:
    """What a trained model carries, before calibration and golden output; `history` is its training's."""
    return Contract(
        model=model,
        view=config.views.recipe,
        scale=data.scale,
        calibration=None,
        golden=None,
        training_id=key.id,
        dataset_sha256=data.ladder.content_sha256,
        sets=rated_maps.best_maps(data.sets, history),
    )
