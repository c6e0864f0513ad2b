"""Foreign checkpoints: read safely, unwrapped, and accounted for key by key."""

from __future__ import annotations

import argparse
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rungwise.artifact import canonical_json, sha256_file, write_json
from teacher.releases import download_advice

WRAPPERS = ("model", "module", "state_dict", "weights")
# Training scripts leave their settings in checkpoints: data that runs nothing. The released stage-2 6B file has
# dictionaries of its own class, which are read as plain ones.
SETTINGS_CLASSES = (argparse.Namespace, (OrderedDict, "utils.easydict.EasyDict"))
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


@dataclass
class Card:
    """What was read: written beside a converted file and shown when a teacher is loaded."""

    source: str
    sha256: str
    wrapper: str = ""
    prefix: str = ""
    positions: str = ""
    used: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    left_fresh: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line."""
        facts = [f"{len(self.used)} tensors read from {self.source}", f"sha256 {self.sha256[:12]}"]
        facts += [f"unwrapped {self.wrapper!r}"] if self.wrapper else []
        facts += [f"prefix {self.prefix!r}"] if self.prefix else []
        facts += [f"{len(self.extras)} known extras left out ({self.extras[0]}, ...)"] if self.extras else []
        facts += [f"not in the file, left as initialized: {', '.join(self.left_fresh)}"] if self.left_fresh else []
        facts += [f"positions {self.positions}"] if self.positions else []
        return ", ".join(facts)


def find_weights(source: str) -> Path:
    """A local file, a folder with one, or one fetched from the hub: "OWNER/NAME" or "OWNER/NAME/FILE".

    Raises:
        ValueError: no such file, nothing on the hub, or several files to choose from (all named).
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return path / _only(source, [each.name for each in path.iterdir()])
    parts = source.split("/")
    if path.is_absolute() or source.startswith(".") or len(parts) < 2 or path.parent.is_dir():
        raise ValueError(f"{source}: no such file, nor a hub id (OWNER/NAME or OWNER/NAME/FILE)")
    from huggingface_hub import hf_hub_download, list_repo_files

    repo, name = "/".join(parts[:2]), "/".join(parts[2:])
    try:
        return Path(hf_hub_download(repo, name or _only(repo, list_repo_files(repo))))
    except ValueError:
        raise
    except Exception as error:  # the hub's client raises many kinds; all mean that the file can't be had
        reason = f"no such file here, and the hub gave none ({_first_line(error)})"
        raise ValueError(f"{source}: {reason}; {download_advice(repo, name)}") from error


def _only(place: str, names: list[str]) -> str:
    """The one weight file among names."""
    weights = sorted(name for name in names if name.endswith(SUFFIXES))
    if len(weights) != 1:
        choice = ", ".join(weights) or "there is none"
        raise ValueError(f"{place}: holds {len(weights)} weight files; give one as {place}/FILE: {choice}")
    return weights[0]


def read_foreign(source: str) -> tuple[dict[str, Tensor], Card]:
    """Tensors of a checkpoint by key, unwrapped, on the CPU, and the card begun.

    Raises:
        ValueError: no such file, not a checkpoint, a pickle that wants to run code, or no tensors in it.
    """
    path = find_weights(source)
    tensors, wrapper = read_tensors(path)
    return tensors, Card(source=source, sha256=sha256_file(path), wrapper=wrapper)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of a file by key, and what wrapped them, such as "module". Large ones stay on disk until they are used.

    Raises:
        ValueError: as `read_foreign`.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path), ""
        except SafetensorError as error:
            raise ValueError(f"{path}: not a whole safetensors file ({error}); fetch it again") from error
    contents, wrappers = _unpickle(path), []
    while isinstance(contents, Mapping):
        inner = [key for key in WRAPPERS if isinstance(contents.get(key), Mapping)]
        if not inner:
            break
        wrappers.append(inner[0])
        contents = contents[inner[0]]
    tensors = (
        {key: value for key, value in contents.items() if isinstance(value, Tensor)}
        if isinstance(contents, Mapping)
        else {}
    )
    if not tensors:
        raise ValueError(f"{path}: holds no tensors by name, so it is no checkpoint of a model")
    return tensors, ".".join(wrappers)


def _unpickle(path: Path) -> Any:
    """What a PyTorch file holds; nothing in it is run."""
    try:
        with torch.serialization.safe_globals([*SETTINGS_CLASSES]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and "GLOBAL" in str(error).upper():
            raise ValueError(
                f"{path}: a pickle that asks for code to be run, not only tensors; it was not loaded. "
                "Ask its maker for safetensors"
            ) from error
        raise ValueError(f"{path}: not a PyTorch checkpoint; fetch it again") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        detail = f" ({_first_line(error)})" if isinstance(error, RuntimeError) else ""
        raise ValueError(f"{path}: not a whole PyTorch checkpoint{detail}; fetch it again") from error


def _first_line(error: Exception) -> str:
    """An error's first sentence: libraries' messages run over lines and give advice that isn't ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]


def account(
    state: Mapping[str, Tensor],
    want: Mapping[str, Tensor],
    card: Card,
    *,
    extras: Iterable[str],
    may_lack: Iterable[str] = (),
) -> None:
    """Put every key of `state` under used or known extras in `card`, and every wanted key under used or fresh.

    Args:
        extras: beginnings of keys that may be there and are not used.
        may_lack: beginnings of the model's keys that a file may lack.

    Raises:
        ValueError: an unknown key, a missing key, or another shape; the first of each is named.
    """
    extras, may_lack = tuple(extras), tuple(may_lack)
    card.used = sorted(want.keys() & state.keys())
    card.extras = sorted(key for key in state.keys() - want.keys() if key.startswith(extras))
    card.left_fresh = sorted(key for key in want.keys() - state.keys() if key.startswith(may_lack))
    unknown = sorted(state.keys() - want.keys() - set(card.extras))
    missing = sorted(want.keys() - state.keys() - set(card.left_fresh))
    shapes = [key for key in card.used if state[key].shape != want[key].shape]
    problems = [
        f"{len(keys)} {kind} key(s), the first {keys[0]!r}"
        for kind, keys in (("missing", missing), ("unknown", unknown))
        if keys
    ]
    if shapes:
        file_shape, model_shape = tuple(state[shapes[0]].shape), tuple(want[shapes[0]].shape)
        problems.append(
            f"{len(shapes)} key(s) of another shape, the first {shapes[0]!r}: file {file_shape}, model {model_shape}"
        )
    if problems:
        raise ValueError(
            f"{card.source}: does not fit the model: {'; '.join(problems)}; is it another size or another model?"
        )


def save_converted(path: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write safetensors with the card in its metadata and, to be read by people, as `<name>.card.json`."""
    text = canonical_json(asdict(card))
    partial = path.with_name(path.name + ".partial")
    save_file({key: value.contiguous().clone() for key, value in state.items()}, partial, {"card": text})
    partial.replace(path)
    write_json(path.with_suffix(".card.json"), asdict(card))


def read_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's metadata.

    Raises:
        ValueError: not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            return dict(stream.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({_first_line(error)})") from error


def parse_json_field(metadata: Mapping[str, str], name: str, path: Path) -> Any:
    """One metadata entry as JSON.

    Raises:
        ValueError: it is missing or no JSON.
    """
    try:
        return json.loads(metadata[name])
    except KeyError as error:
        raise ValueError(f"{path}: no {name!r} in its metadata") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: {name!r} in its metadata is no JSON: {error}") from error
