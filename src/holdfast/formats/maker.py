"""Which program wrote a file, by the keys that only it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.formats.arrays import InertArray
from holdfast.formats.inert import InertObject


def made_by(tree: Any) -> str | None:
    """Returns the program that wrote a tree, with its version where it says so; None when nothing tells."""
    if isinstance(tree, InertObject):
        return next((name for module, name in _CLASSES if tree.module.split(".")[0] == module), None)
    if not isinstance(tree, dict):
        return None
    return next((name + _version(tree, key) for name, key, is_it in _PROGRAMS if is_it(tree)), None)


def _version(tree: dict[Any, Any], key: str) -> str:
    version = tree.get(key)
    return f" {version[:40]}" if type(version) is str else ""


def _has(*keys: str) -> Callable[[dict[Any, Any]], bool]:
    return lambda tree: all(key in tree for key in keys)


def _ignite(tree: dict[Any, Any]) -> bool:
    engines = [v for v in tree.values() if isinstance(v, dict) and {"iteration", "epoch_length"} <= v.keys()]
    return bool(engines) or "checkpointer" in tree


def _ultralytics(tree: dict[Any, Any]) -> bool:
    owners = {v.module.split(".")[0] for v in (tree.get("model"), tree.get("ema")) if isinstance(v, InertObject)}
    return "ultralytics" in owners or ("models" in owners and "updates" in tree)  # `models` is what YOLOv5 calls it


def _fastai(tree: dict[Any, Any]) -> bool:
    return tree.keys() == {"model", "opt"} and isinstance(tree["opt"], dict) and "hypers" in tree["opt"]


def _composer(tree: dict[Any, Any]) -> bool:
    state = tree.get("state")
    return isinstance(state, dict) and "model" in state and "rng" in tree


def _torchvision(tree: dict[Any, Any]) -> bool:
    args = tree.get("args")
    is_namespace = isinstance(args, InertObject) and args.full_name == "argparse.Namespace"
    return is_namespace and all(key in tree for key in ("model", "optimizer", "lr_scheduler", "epoch"))


def _timm(tree: dict[Any, Any]) -> bool:
    return {"epoch", "arch", "state_dict", "version"} <= tree.keys() and type(tree["version"]) is int


def _imagenet(tree: dict[Any, Any]) -> bool:
    best = tree.get("best_acc1", tree.get("best_prec1"))
    return {"arch", "state_dict"} <= tree.keys() and (isinstance(best, (float, int, InertArray)) or best is not None)


def _openmmlab(tree: dict[Any, Any]) -> bool:
    meta = tree.get("meta")
    return isinstance(meta, dict) and bool({"mmcv_version", "mmengine_version"} & meta.keys())


_CLASSES: tuple[tuple[str, str], ...] = (
    ("fastai", "fastai export"),
    ("skorch", "skorch"),
    ("ultralytics", "Ultralytics"),
    *((package, package) for package in ("timm", "torchvision", "transformers")),
)
# Name, the key of its version, and how it is known; the first that fits.
_PROGRAMS: tuple[tuple[str, str, Callable[[dict[Any, Any]], bool]], ...] = (
    ("PyTorch Lightning", "pytorch-lightning_version", _has("pytorch-lightning_version")),
    ("DeepSpeed", "ds_version", _has("ds_version")),
    ("Ultralytics", "version", _ultralytics),
    ("Composer", "", _composer),
    ("OpenMMLab", "", _openmmlab),
    ("fastai", "", _fastai),
    ("torchvision references", "", _torchvision),
    ("timm", "", _timm),
    ("PyTorch ImageNet example", "", _imagenet),
    ("Ignite", "", _ignite),
)
