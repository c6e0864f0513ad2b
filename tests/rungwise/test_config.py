"""Configs: strict, and all errors at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rungwise.config import load_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_committed_config_loads_and_opens_with_its_command(path: Path) -> None:
    load_config(path)
    head = path.read_text().split("name:")[0]
    assert all(word in head for word in ("# command:", "# hardware:", "# time:", "# expected:"))


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    values = yaml.safe_load(CONFIGS[0].read_text())
    values["ladder"]["lable"] = "typo"
    values["student"]["training"]["epochs"] = 0
    del values["seed"]
    values["sources"] = {}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"4 wrong key\(s\)") as error:
        load_config(path)
    for words in (
        "ladder.lable",
        "student.training.epochs",
        "seed: Field required",
        "give `builtin`, `more_scenes`, `folder`, `photographs` or `dataset`",
    ):
        assert words in str(error.value)


def test_sources_replace_the_masters(tmp_path: Path) -> None:
    quickstart = next(path for path in CONFIGS if path.stem == "quickstart")
    replaced = load_config(quickstart, sources=tmp_path).sources
    assert (replaced.folder, replaced.builtin, replaced.num_frames) == (tmp_path, None, None)
    students = Path(__file__).parents[2] / "benchmarks" / "students.yaml"
    replaced = load_config(students, sources=tmp_path).sources
    assert (replaced.folder, replaced.num_frames) == (tmp_path, 40)
    assert replaced.groups["vide_ocean"] == ("ocean_surface_bw", "ocean_wave_bw")


def test_files_that_are_no_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such config"):
        load_config(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match="not YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="mapping"):
        load_config(tmp_path / "list.yaml")


def test_the_weight_of_encodes_of_encodes_goes_with_the_stream_loss(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "benchmarks" / "default.yaml").read_text())
    path = tmp_path / "run.yaml"
    together = r"1 wrong key\(s\)\n.*`reencoded_weight` and losses\.stream or losses\.stream_smooth go together"
    for weight, squared, smooth in ((None, 4.0, 0), (None, 0, 1.0), (0.5, 0, 0)):
        values["student"]["reencoded_weight"] = weight
        values["student"]["training"]["losses"] |= {"stream": squared, "stream_smooth": smooth}
        path.write_text(yaml.safe_dump(values))
        with pytest.raises(ValueError, match=together):
            load_config(path)


def test_layers_that_are_distilled_are_cached(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "configs" / "internvideo2_1b.yaml").read_text())
    values["cache"]["layers"] = []
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"losses\.layers needs modules of the teacher in cache\.layers"):
        load_config(path)
