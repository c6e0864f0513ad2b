"""Which package may import which, and what lands in a user's site-packages."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from rungwise.media.ffmpeg import run_ffmpeg

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "rungwise": {"rungwise"},
    "teacher": {"rungwise", "teacher"},
    "student": {"rungwise", "teacher", "student"},
    "distill": {"rungwise", "teacher", "student", "distill"},
}


# Each may import those before it. What lies in `rungwise` itself comes first, but for `config` and the root.
LAYERS = ("", "media", "bitstream", "score", "config", "metrics", "scenes", "datasets", "ladder", "report", "cli")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        lazily = path.is_relative_to(ROOT / "rungwise" / "cli")  # inside the command that needs it
        foreign = imports(path) & (set(PACKAGES) - (set(PACKAGES) if lazily else PACKAGES[package]))
        assert not foreign, f"{path} imports {foreign}"
        assert package != "rungwise" or not imports(path) & {"torch", "timm", "transformers"}, path


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the installed package."""
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "rungwise").rglob("*.py"))
    return {".".join(path.parts).removesuffix(".__init__"): ROOT / path.with_suffix(".py") for path in files}


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere in it."""
    there = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
            there |= (dotted & names) or ({node.module} & names)
        elif isinstance(node, ast.Import):
            there |= {alias.name for alias in node.names} & names
    return there


def layer(name: str) -> str:
    part = name.split(".")[1] if "." in name else ""
    return part if part in LAYERS else ""


def test_no_module_imports_a_layer_above_its_own() -> None:
    files = modules()
    for name, path in files.items():
        if name in ("rungwise", "rungwise.__main__"):
            continue
        above = {
            other
            for other in imported_modules(path, set(files)) - {"rungwise"}
            if LAYERS.index(layer(other)) > LAYERS.index(layer(name))
        }
        assert not above, f"{name} imports {above}"


def test_no_imports_go_in_a_circle() -> None:
    files = modules()
    graph = {name: imported_modules(path, set(files)) - {name, "rungwise"} for name, path in files.items()}
    del graph["rungwise"]
    TopologicalSorter(graph).prepare()


def test_the_wheel_holds_rungwise_alone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "rungwise").rglob("__init__.py")}
    assert listed == there
    assert not any("torch" in need for need in settings["project"]["dependencies"])


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = ("ladder", "train", "watch", "s3", "ray")
    needs = [need for group in groups for need in extras[group]] + project["dependencies"]
    names = {re.split(r"[<>=!~\[ ]", need)[0].replace("-", "_") for need in needs}
    modules = {{"pillow": "PIL", "pyyaml": "yaml"}.get(name, name) for name in names}
    for path in (ROOT / "rungwise").rglob("*.py"):
        foreign = imports(path) - set(sys.stdlib_module_names) - set(PACKAGES) - modules
        assert not foreign, f"{path} imports {foreign}"


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {str(path): lines for path in ROOT.glob("*/**/*.py") if (lines := len(path.read_text().splitlines())) > 400}
    assert not {path: lines for path, lines in long.items() if ".venv" not in path and "/runs/" not in path}


POSIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
LADDER_EXTRA = {"bjontegaard", "imageio_ffmpeg", "pandas", "pyarrow", "scipy", "yaml"}
RUN_BLOCKED = """
import sys
from importlib.abc import MetaPathFinder
class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
blocked = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Blocked())
"""


def run_blocked(blocked: set[str], script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in which some modules can't be imported."""
    command = [sys.executable, "-c", RUN_BLOCKED + script, ",".join(sorted(blocked)), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


OTHER_SYSTEMS = {  # what each lacks: modules, functions of `os`, names of `signal`
    "win32": (
        POSIX_ONLY,
        "fork getuid geteuid getgid setsid getpgid killpg mkfifo sched_getaffinity sched_setaffinity sysconf statvfs "
        "getloadavg uname pread wait4 posix_spawn O_NONBLOCK",
        "SIGPIPE SIGALRM SIGHUP SIGQUIT SIGKILL SIGUSR1 SIGUSR2 SIGCHLD alarm setitimer pthread_sigmask",
    ),
    "darwin": (set[str](), "sched_getaffinity sched_setaffinity posix_fadvise", "SIGPOLL SIGPWR pthread_sigqueue"),
}
OTHER_SYSTEM = """
# These are this system's builds, and the standard library's modules load what is of this system.
import av, filelock, jinja2, m3u8, multiprocessing.connection, numpy, onnxruntime, PIL.Image, rich.progress, typer
import sysconfig
from pydantic import BaseModel
sysconfig.get_config_vars()
import importlib, io, json, os, pkgutil, signal
from pathlib import Path
sys.platform, os_names, signal_names, model, clip = sys.argv[1:]
for module, names in ((os, os_names), (signal, signal_names)):
    for name in names.split():
        vars(module).pop(name, None)
import rungwise
for package in ("media", "bitstream", "score", "cli", "report", "ladder"):
    folder = importlib.import_module(f"rungwise.{package}")
    for module in pkgutil.iter_modules(folder.__path__, f"rungwise.{package}."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name.split(".")[0] in blocked, error
scorer = rungwise.Scorer(model)
scores = [scorer.score(source).score for source in (clip, io.BytesIO(Path(clip).read_bytes()))]
print(json.dumps(scores))
from rungwise.cli import main
sys.argv = ["rungwise", "score", clip, "-m", model, "--json"]
main()
"""


@pytest.mark.parametrize("system", OTHER_SYSTEMS)
def test_every_module_imports_and_scores_as_on_another_system(
    model: Path, odd_files: Path, tmp_path: Path, system: str
) -> None:
    modules, os_names, signal_names = OTHER_SYSTEMS[system]
    clip = tmp_path / "clip.ts"
    run_ffmpeg(["-i", str(odd_files / "plain.mp4"), "-c", "copy", str(clip)])
    done = run_blocked(modules | LADDER_EXTRA, OTHER_SYSTEM, system, os_names, signal_names, model, clip)
    assert done.returncode == 0, done.stderr
    scores, printed = (json.loads(line) for line in done.stdout.splitlines())
    assert scores[0] == scores[1]
    assert printed["score"] == pytest.approx(scores[0], abs=1e-3)


def test_no_module_of_posix_is_imported() -> None:
    for path in (ROOT / "rungwise").rglob("*.py"):
        assert not imports(path) & POSIX_ONLY, path


def test_a_scorer_only_install_scores_and_checks_ladders(
    model: Path, small_clip: Path, clip: Path, tmp_path: Path
) -> None:
    for number, path in enumerate((small_clip, clip)):
        (tmp_path / f"{number}.mp4").write_bytes(path.read_bytes())
    script = "from rungwise.cli import main; main()"
    verbs = [["score", tmp_path, "-m", model], ["ladder", "check", tmp_path, "-m", model, "--out", tmp_path / "out"]]
    for verb in (*verbs, ["probe", clip]):
        done = run_blocked(LADDER_EXTRA, script, *verb)
        assert done.returncode == 0, done.stderr
    assert {path.suffix for path in (tmp_path / "out").glob("check.*")} == {".json", ".csv", ".txt", ".html"}


def test_help_and_scoring_import_no_torch() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from rungwise.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "assert not {'torch', 'numpy', 'pandas', 'onnxruntime', 'av'} & sys.modules.keys(), 'help is slow'; "
        "import rungwise.score.scorer; assert not {'torch', 'pandas', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
