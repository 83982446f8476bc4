"""What a model says of one picture, by task: for a program as JSON, for a table as cells, for a person as a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from holdfast.data.targets import TargetSpec


@dataclass(frozen=True)
class Prediction:
    """A class; `top` holds (class name, probability in [0, 1]), most probable first."""

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

    def cells(self) -> list[Any]:
        """Returns what a table has in the columns of `columns_of`."""
        return [self.class_name, self.index, self.probability]

    def line(self) -> str:
        """Returns it for a person."""
        return "  ".join(f"{name} {p:.1%}" for name, p in self.top)


@dataclass(frozen=True)
class LabelsPrediction:
    """Several labels: the probability in [0, 1] of each that the model knows, and those that reach the threshold."""

    path: str
    probabilities: dict[str, float]
    threshold: float

    @property
    def labels(self) -> list[tuple[str, float]]:
        """(label, probability) of those that reach the threshold, most probable first."""
        found = [(name, p) for name, p in self.probabilities.items() if p >= self.threshold]
        return sorted(found, key=lambda pair: -pair[1])

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        labels = [{"label": name, "probability": p} for name, p in self.labels]
        return {"path": self.path, "labels": labels, "probabilities": self.probabilities}

    def cells(self) -> list[Any]:
        """Returns what a table has in the columns of `columns_of`."""
        return ["|".join(name for name, _ in self.labels), *self.probabilities.values()]

    def line(self) -> str:
        """Returns it for a person."""
        return "  ".join(f"{name} {p:.1%}" for name, p in self.labels) or f"no label reaches {self.threshold:.0%}"


@dataclass(frozen=True)
class NumbersPrediction:
    """Column → number, in the units of the table that was learned."""

    path: str
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        return {"path": self.path, "values": self.values}

    def cells(self) -> list[Any]:
        """Returns what a table has in the columns of `columns_of`."""
        return list(self.values.values())

    def line(self) -> str:
        """Returns it for a person."""
        return "  ".join(f"{name} {value:.6g}" for name, value in self.values.items())


@dataclass(frozen=True)
class PointsPrediction:
    """Point → (x, y) in pixels of the upright picture, counted from the middle of its first pixel.

    A point may lie off the picture. `size` is the picture's (height, width).
    """

    path: str
    points: dict[str, tuple[float, float]]
    size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        points = [{"name": name, "x": x, "y": y} for name, (x, y) in self.points.items()]
        return {"path": self.path, "height": self.size[0], "width": self.size[1], "points": points}

    def cells(self) -> list[Any]:
        """Returns what a table has in the columns of `columns_of`."""
        return [value for point in self.points.values() for value in point]

    def line(self) -> str:
        """Returns it for a person."""
        shown = [f"{name} ({x:.1f}, {y:.1f})" for name, (x, y) in list(self.points.items())[:8]]
        return "  ".join(shown) + ("  …" if len(self.points) > 8 else "")


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    path: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as the command line prints it."""
        return {"path": self.path, "error": self.error}


AnyPrediction = Prediction | LabelsPrediction | NumbersPrediction | PointsPrediction


def columns_of(spec: TargetSpec) -> list[str]:
    """Returns the columns of a table of predictions, between `path` and `error`."""
    if spec.task == "classification":
        return ["class", "index", "probability"]
    if spec.task == "multilabel":
        return ["labels", *spec.names]
    if spec.task == "regression":
        return list(spec.names)
    return [f"{name}_{axis}" for name in spec.names for axis in "xy"]


def make_prediction(
    spec: TargetSpec, path: str, answer: Tensor, size: tuple[int, int], *, top_k: int, threshold: float
) -> AnyPrediction:
    """Names what the model said.

    Args:
        answer: of one picture, as `in_own_terms` gives it.
        size: the picture's height and width.
        top_k: classes to name, 1 or more.
        threshold: probability in [0, 1] from which on a label is given.
    """
    if spec.task == "classification":
        values, indices = answer.topk(min(max(top_k, 1), len(spec.names)))
        top = [(spec.names[i], p) for i, p in zip(indices.tolist(), values.tolist(), strict=True)]
        return Prediction(path, top[0][0], int(indices[0]), top[0][1], top)
    if spec.task == "multilabel":
        return LabelsPrediction(path, dict(zip(spec.names, answer.tolist(), strict=True)), threshold)
    if spec.task == "regression":
        return NumbersPrediction(path, dict(zip(spec.names, answer.tolist(), strict=True)))
    return PointsPrediction(
        path, {name: (x, y) for name, (x, y) in zip(spec.names, answer.tolist(), strict=True)}, size
    )
