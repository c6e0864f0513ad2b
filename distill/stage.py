"""What a stage is, and what its function is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rungwise.artifact import Artifact, StageKey
from rungwise.config import RunConfig
from rungwise.ladder.sources import Master

Artifacts = Mapping[str, Artifact]  # by role, such as "teacher"


def constants(*modules: ModuleType) -> dict[str, Any]:
    """The `Final` constants of these modules by dotted name: they change a result as keys of the config do."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name, kind in module.__annotations__.items()
        if kind == "Final"
    }


@dataclass(frozen=True)
class Inputs:
    """What a stage reads beside the config. Device, runs folder, watch and Ray change no result; masters are in the
    ladder's key."""

    key: StageKey
    artifacts: Artifacts
    runs: Path
    device: str = "cpu"
    watch: Path | None = None  # folder for TensorBoard
    masters: Sequence[Master] = ()
    ray: str | None = None  # address of a cluster

    def __getitem__(self, role: str) -> Artifact:
        return self.artifacts[role]


class Build(Protocol):
    """A stage's function: it fills a folder and may return facts for the manifest."""

    def __call__(self, folder: Path, config: RunConfig, inputs: Inputs) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True)
class Stage:
    """A row of the table of stages.

    The artifact's id is the hash of name, version, `params(config, artifacts)`, the `Final` constants of `modules`, and
    the contents of `inputs` (role -> stage). `shared`: all processes take part in `build`, and the first alone finishes
    the folder.
    """

    name: str
    version: int
    inputs: Mapping[str, str]
    params: Callable[[RunConfig, Artifacts], dict[str, Any]]
    build: Build
    modules: tuple[ModuleType, ...] = ()
    shared: bool = False

    def key(self, config: RunConfig, artifacts: Artifacts) -> StageKey:
        """Everything that can change the stage's result."""
        contents = {role: artifact.content_sha256 for role, artifact in artifacts.items()}
        params = self.params(config, artifacts)
        if self.modules:
            params = params | {"constants": constants(*self.modules)}
        return StageKey(self.name, self.version, params, contents)
