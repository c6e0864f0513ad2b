"""A static page that scores videos in the browser, pixel-only: `rungwise export --web`.

The page's own files are in `web/`. Two npm packages run the model and read the videos; they are not in the wheel, as
they are larger than it, but downloaded once, in the versions and with the hashes stated here, and copied into the page.
A page then needs nothing but a web server.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass
from importlib.resources import as_file, files
from io import BytesIO
from pathlib import Path

import rungwise
from rungwise.artifact import write_json
from rungwise.bitstream.features import BITSTREAM_INPUT_DIM
from rungwise.progress import note
from rungwise.score.scorer import Scorer

REGISTRY = "https://registry.npmjs.org"
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class NpmPackage:
    """A version of an npm package, and those of its files that the page uses: name in the page -> path in the package.

    `integrity` is the registry's own sha512 of the tarball.
    """

    name: str
    version: str
    integrity: str
    files: dict[str, str]

    @property
    def tarball(self) -> str:
        """The tarball's file name, as `npm pack` writes it."""
        return f"{self.name}-{self.version}.tgz"


PACKAGES = (
    NpmPackage(
        "onnxruntime-web",
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "onnxruntime.js": "dist/ort.wasm.bundle.min.mjs",
            "onnxruntime.wasm": "dist/ort-wasm-simd-threaded.wasm",
        },
    ),
    NpmPackage(
        "mediabunny",
        "1.61.0",
        "WciPOYwKZwgYkoBKcEK6JzzIf+w5whypPzFdOihOylZ/5Qv19FmNfRnTcaprH+jD136YpEASU30Eb6VNCJiz3A==",
        {"mediabunny.js": "dist/bundles/mediabunny.min.mjs", "mediabunny.LICENSE.txt": "LICENSE"},
    ),
)


def write_web_page(folder: Path, model: Path | None, cache: Path) -> None:
    """Write the page of a model (None: the packaged one) to a new folder; `cache` holds the npm packages' tarballs.

    Raises:
        ValueError: the folder has files, the page can't run the model, or a package can't be had.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: not an empty folder")
    scorer = Scorer(model)
    recipe = scorer.contract.view
    if recipe.choice.needs_differences:
        raise ValueError(f"{scorer.path}: chooses frames by {recipe.frame_choice}, which the page can't")
    if "frame_scores" not in scorer.output_names:
        raise ValueError(f"{scorer.path}: gives no frame scores, from which the page takes the worst frames")
    tarballs = [(package, _tarball(package, cache)) for package in PACKAGES]
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("rungwise.report") / "web") as own:
        shutil.copytree(own, folder, dirs_exist_ok=True)
    for package, content in tarballs:
        with tarfile.open(fileobj=BytesIO(content)) as archive:
            for name, path in package.files.items():
                member = archive.extractfile(f"package/{path}")
                assert member is not None
                (folder / name).write_bytes(member.read())
    shutil.copyfile(scorer.path, folder / "model.onnx")
    facts = {
        "version": rungwise.__version__,
        "bitstreamInputs": BITSTREAM_INPUT_DIM,
        "contract": scorer.contract.model_dump(mode="json"),
    }
    write_json(folder / "model.json", facts)


def _tarball(package: NpmPackage, cache: Path) -> bytes:
    """A package's tarball: from the cache, or downloaded into it.

    Raises:
        ValueError: it can't be downloaded, or isn't the one that is pinned.
    """
    path = cache / package.tarball
    if path.is_file():
        content = path.read_bytes()
        _check(package, content, str(path))
        return content
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    url = f"{registry}/{package.name}/-/{package.tarball}"
    note(f"downloading {url}, once")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            content = bytes(answer.read())
    except OSError as error:
        raise ValueError(
            f"{url}: {error}; put it into {cache} by `npm pack {package.name}@{package.version}`"
        ) from error
    _check(package, content, url)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
    return content


def _check(package: NpmPackage, content: bytes, where: str) -> None:
    if base64.b64encode(hashlib.sha512(content).digest()).decode() != package.integrity:
        raise ValueError(f"{where}: not the pinned {package.name} {package.version}: its sha512 differs; delete it")
