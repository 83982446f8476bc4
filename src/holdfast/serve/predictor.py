"""Pictures to class names and probabilities, just as validation saw them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.data.encoded import Encoded
from holdfast.data.picture_file import open_image
from holdfast.data.transforms import Preprocessing, eval_transform
from holdfast.errors import CheckpointError, CheckpointMismatch, DataError
from holdfast.inference import choose_device, fixed_batch_size, forward_fixed
from holdfast.models.registry import Architecture
from holdfast.randomness import derive_seed, seed_generators
from holdfast.serve.open_model import ModelFile, open_model


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture; `top` holds (class name, probability in [0, 1]), most probable first."""

    path: str
    class_name: str
    index: int
    probability: float
    top: list[tuple[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        top = [{"class": name, "probability": p} for name, p in self.top]
        return {
            "path": self.path,
            "class": self.class_name,
            "index": self.index,
            "probability": self.probability,
            "top": top,
        }


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        return {"path": self.path, "error": self.error}


class Predictor:
    """A model with its classes and preprocessing, ready to use.

    Args:
        model: a `ModelFile`, or anything `open_model` understands ("runs/x", "best.safetensors" …).
        device: "auto", "cpu", "cuda" …; wherever it was trained.

    Raises:
        ConfigError, CheckpointError: it cannot be opened, or does not say what model it is.
    """

    def __init__(self, model: ModelFile | str, device: str = "auto") -> None:
        self.file = open_model(model) if isinstance(model, str) else model
        self.device = choose_device(device)
        metadata = self.file.metadata
        missing = [key for key in ("architecture", "classes", "preprocessing") if key not in metadata]
        if missing:
            raise CheckpointError(
                f"{self.file.path} does not carry {' and '.join(missing)}: it was saved by a loop of its own. "
                "Load its weights into your model instead."
            )
        self.classes: list[str] = metadata["classes"]
        self.preprocessing = Preprocessing.from_json(metadata["preprocessing"])
        self.precision: str = metadata.get("precision", "fp32")
        self.architecture = Architecture(**metadata["architecture"])
        self.model = self._build().to(self.device).eval()
        self._transform = eval_transform(self.preprocessing)

    def predict(self, paths: Iterable[str | Path], top_k: int = 5) -> Iterator[Prediction | Unreadable]:
        """Yields one result a picture, in order. A picture that cannot be read is a result too.

        Args:
            top_k: how many classes to name, 1 or more.
        """
        remaining = iter(paths)
        while chunk := list(islice(remaining, fixed_batch_size(self.device))):
            inputs: list[Tensor] = []
            problems: dict[int, str] = {}
            for place, path in enumerate(chunk):
                try:
                    inputs.append(self.read(Path(path)))
                except DataError as error:
                    problems[place] = str(error)
            rows: Iterator[Tensor] = iter(self.probabilities(torch.stack(inputs)) if inputs else [])
            for place, path in enumerate(chunk):
                yield (
                    Unreadable(str(path), problems[place])
                    if place in problems
                    else self._name(str(path), next(rows), top_k)
                )

    def read(self, path: Path) -> Tensor:
        """Returns a picture file as `probabilities` takes it. Raises DataError."""
        return self.pixels(open_image(path, self.preprocessing.channels))

    def pixels(self, picture: Encoded) -> Tensor:
        """Returns a picture as `probabilities` takes it, `[C, S, S]` uint8, on one thread as in training.

        Raises:
            DataError: it cannot be decoded.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            seed_generators(derive_seed("evaluate"))
            return self._transform.pixels(picture)
        finally:
            torch.set_num_threads(threads)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Maps `[N, C, S, S]` pictures, as `read` gives them, to `[N, K]` float32 probabilities on the CPU."""
        inputs = self._transform.finish(pixels.to(self.device))
        return F.softmax(forward_fixed(self.model, inputs, self.precision).cpu(), 1)

    def _name(self, path: str, probabilities: Tensor, top_k: int) -> Prediction:
        values, indices = probabilities.topk(min(max(top_k, 1), len(self.classes)))
        top = [(self.classes[i], p) for i, p in zip(indices.tolist(), values.tolist(), strict=True)]
        return Prediction(path, top[0][0], int(indices[0]), top[0][1], top)

    def _build(self) -> nn.Module:
        model = self.architecture.build()
        own = model.state_dict()
        wrong = [
            n
            for n in {*own, *self.file.tensors}
            if n not in own or n not in self.file.tensors or own[n].shape != self.file.tensors[n].shape
        ]
        if wrong:
            raise CheckpointMismatch(
                f"{self.file.path}: {self.architecture.name} as built here does not fit the weights "
                f"({', '.join(sorted(wrong)[:5])}). Was its source changed since?"
            )
        model.load_state_dict(self.file.tensors)
        return model


def find_images(arguments: Sequence[str]) -> list[str]:
    """Returns the pictures that files, folders (at any depth) and globs name, in natural order within each.

    An argument that names no picture stands for itself: its reader says so, after the others have been done.
    """
    from holdfast.data.files import is_image_name, natural_key

    found: list[str] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            members = [str(p) for p in path.rglob("*") if p.is_file() and is_image_name(p.name)]
        elif path.exists():
            members = [argument]
        elif any(c in argument for c in "*?["):
            members = [p for p in glob.glob(argument, recursive=True) if Path(p).is_file()]  # noqa: PTH207  # also absolute
        else:
            members = []
        found += sorted(members or [argument], key=natural_key)
    return found
