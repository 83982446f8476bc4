"""What bits depend on besides the recipe: versions, device, threads, decoder. Recorded; compared at a resume."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from holdfast.data.decoding.decode import decoder_versions

# Those of environment.json that a different value of makes different bits possible.
_EXACTNESS_KEYS = ("device", "threads", "machine", "decoder", "versions")


def fingerprint(device: torch.device, precision: str) -> dict[str, Any]:
    """Returns what this process runs on, as JSON values."""
    return {
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in ("holdfast", "torch", "torchvision", "timm", "numpy", "pillow")},
        "decoder": decoder_versions(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "precision": precision,
        "host": platform.node(),
        "system": platform.platform(),
        "git_commit": _git_commit(),
    }


def differences(then: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Returns what has changed since `then` that can change bits, one text each."""
    changed: list[str] = []
    for key in _EXACTNESS_KEYS:
        before, after = then.get(key), here.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += [
                f"{name} {before.get(name)} → {after.get(name)}"
                for name in after
                if before.get(name) != after.get(name)
            ]
        elif before != after:
            changed.append(f"{key} {before} → {after}")
    return changed


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of the working directory's repository, for the record."""
    if not any((parent / ".git").exists() for parent in (Path.cwd(), *Path.cwd().parents)):
        return None
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S607
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
