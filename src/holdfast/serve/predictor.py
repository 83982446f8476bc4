"""Pictures to what a model says of them, just as validation saw them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from holdfast.data.answers import in_own_terms
from holdfast.data.decode import decode_image
from holdfast.data.keypoints import picture_transform
from holdfast.data.sample import Indices
from holdfast.data.targets import TargetSpec
from holdfast.data.transforms import Preprocessing, eval_transform
from holdfast.errors import CheckpointError, CheckpointMismatch, DataError
from holdfast.inference import choose_device, fixed_batch_size, forward_fixed
from holdfast.models.registry import Architecture
from holdfast.randomness import derive_seed, seed_generators
from holdfast.serve.open_model import ModelFile, open_model
from holdfast.serve.predictions import AnyPrediction, Unreadable, make_prediction


class Predictor:
    """A model with its preprocessing and the meaning of its outputs (`spec`), ready to use.

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
        meaning = "targets" if "targets" in metadata else "classes"
        missing = [key for key in ("architecture", meaning, "preprocessing") if key not in metadata]
        if missing:
            raise CheckpointError(
                f"{self.file.path} does not carry {' and '.join(missing)}: it was saved by a loop of its own. "
                "Load its weights into your model instead."
            )
        self.spec = (
            TargetSpec.from_json(metadata["targets"])
            if "targets" in metadata
            else TargetSpec("classification", tuple(metadata["classes"]))
        )
        self.classes: list[str] = metadata.get("classes", [])
        self.preprocessing = Preprocessing.from_json(metadata["preprocessing"])
        self.precision: str = metadata.get("precision", "fp32")
        self.architecture = Architecture(**metadata["architecture"])
        self.model = self._build().to(self.device).eval()
        points = self.spec.task == "landmarks"
        self._transform = picture_transform(self.preprocessing) if points else eval_transform(self.preprocessing)

    def predict(
        self, paths: Iterable[str | Path], top_k: int = 5, threshold: float = 0.5
    ) -> Iterator[AnyPrediction | Unreadable]:
        """Yields one result a picture, in order. A picture that cannot be read is a result too.

        Args:
            top_k: how many classes to name, 1 or more.
            threshold: the probability from which on a label is given, where a picture may have several.
        """
        remaining = iter(paths)
        while chunk := list(islice(remaining, fixed_batch_size(self.device))):
            inputs: list[Tensor] = []
            sizes: list[tuple[int, int]] = []
            problems: dict[int, str] = {}
            for place, path in enumerate(chunk):
                try:
                    image = decode_image(Path(path), self.preprocessing.channels)
                except DataError as error:
                    problems[place] = str(error)
                    continue
                inputs.append(self.transform(image))
                sizes.append((image.shape[-2], image.shape[-1]))
            rows = iter(zip(self.answers(torch.stack(inputs), np.array(sizes)), sizes, strict=True) if inputs else [])
            for place, path in enumerate(chunk):
                if place in problems:
                    yield Unreadable(str(path), problems[place])
                    continue
                answer, size = next(rows)
                yield make_prediction(self.spec, str(path), answer, size, top_k=top_k, threshold=threshold)

    def read(self, path: Path) -> Tensor:
        """Returns a picture as the network's input, `[C, S, S]` float32. Raises DataError."""
        return self.transform(decode_image(path, self.preprocessing.channels))

    def transform(self, image: Tensor) -> Tensor:
        """Returns a decoded picture `[C, H, W]` uint8 as the network's input, on one thread as in training."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            seed_generators(derive_seed("evaluate"))
            return self._transform(image)
        finally:
            torch.set_num_threads(threads)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Maps inputs `[N, C, S, S]` float32 to the network's own outputs, `[N, spec.num_outputs]` on the CPU."""
        return forward_fixed(self.model, inputs.to(self.device), self.precision).cpu()

    def answers(self, inputs: Tensor, sizes: Indices) -> Tensor:
        """Maps inputs to what they say of N pictures; see `in_own_terms`. `sizes`: `[N, 2]`, height and width."""
        return in_own_terms(self.outputs(inputs), self.spec, self.preprocessing, sizes)

    def probabilities(self, inputs: Tensor) -> Tensor:
        """Maps `[N, C, S, S]` float32 inputs to `[N, K]` float32 probabilities on the CPU."""
        return F.softmax(self.outputs(inputs), 1)

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
