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
from holdfast.data.preprocessing.crops import Whole
from holdfast.data.preprocessing.encoded import Encoded
from holdfast.data.preprocessing.keypoints import picture_transform
from holdfast.data.preprocessing.normalise import Normalise
from holdfast.data.preprocessing.picture_file import open_image
from holdfast.data.preprocessing.transforms import Preprocessing, StagedTransform, eval_transform
from holdfast.data.sample import Indices
from holdfast.data.targets import TargetSpec
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
        self._transform = _transform_for(self.spec, self.preprocessing)

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
                    picture = _opened(Path(path), self.preprocessing.channels)
                    inputs.append(self.pixels(picture))
                except DataError as error:
                    problems[place] = str(error)
                    continue
                sizes.append((picture.height, picture.width))
            rows = iter(zip(self.answers(torch.stack(inputs), np.array(sizes)), sizes, strict=True) if inputs else [])
            for place, path in enumerate(chunk):
                if place in problems:
                    yield Unreadable(str(path), problems[place])
                    continue
                answer, size = next(rows)
                yield make_prediction(self.spec, str(path), answer, size, top_k=top_k, threshold=threshold)

    def read(self, path: Path) -> Tensor:
        """Returns a picture file as `outputs` takes it. Raises DataError."""
        return self.pixels(_opened(path, self.preprocessing.channels))

    def pixels(self, picture: Encoded) -> Tensor:
        """Returns a picture as `outputs` takes it, `[C, S, S]`, on one thread as in training.

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

    def outputs(self, pixels: Tensor) -> Tensor:
        """Maps `[N, C, S, S]` pictures, as `read` gives them, to the network's `[N, spec.num_outputs]` on the CPU."""
        inputs = self._transform.finish(pixels.to(self.device))
        return forward_fixed(self.model, inputs, self.precision).cpu()

    def answers(self, pixels: Tensor, sizes: Indices) -> Tensor:
        """Maps pictures to what is said of them; see `in_own_terms`. `sizes`: `[N, 2]`, height and width."""
        return in_own_terms(self.outputs(pixels), self.spec, self.preprocessing, sizes)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Maps `[N, C, S, S]` pictures, as `read` gives them, to `[N, K]` float32 probabilities on the CPU."""
        return F.softmax(self.outputs(pixels), 1)

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


def _transform_for(spec: TargetSpec, preprocessing: Preprocessing) -> StagedTransform:
    if spec.task != "landmarks":
        return eval_transform(preprocessing)
    finish = Normalise(preprocessing.mean, preprocessing.std, floats=False)  # its pipeline makes floats already
    return StagedTransform(Whole(), picture_transform(preprocessing), finish, scaled=False)


def _opened(path: Path, channels: int) -> Encoded:
    if path.is_dir():
        raise DataError(f"{path}: there is no picture in this folder.")
    return open_image(path, channels)


def find_images(arguments: Sequence[str]) -> list[str]:
    """Returns the pictures that files, folders (at any depth) and globs name, in natural order within each.

    A link that leads nowhere and a pipe are pictures by their names, and cannot be read. An argument that names no
    picture stands for itself: its reader says so, after the others have been done.
    """
    from holdfast.data.files import is_image_name, natural_key

    found: list[str] = []
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            members = [str(p) for p in path.rglob("*") if is_image_name(p.name) and not p.is_dir()]
        elif path.exists():
            members = [argument]
        elif any(c in argument for c in "*?["):
            members = [p for p in glob.glob(argument, recursive=True) if Path(p).is_file()]  # noqa: PTH207  # also absolute
        else:
            members = []
        found += sorted(members or [argument], key=natural_key)
    return found
