"""ONNX graphs, which are refused with a word on what to open in their place."""

# ruff: noqa: D103  # a specimen's name says what it is

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.specimen import Collection, Made, Refusal

COLLECTION = Collection("onnx")
add = COLLECTION.add


def _graph(producer: str) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    return helper.make_model(graph, producer_name=producer)


@add("onnx.save")
def graph(folder: Path) -> Made:
    onnx.save(_graph("onnx-example"), folder / "model.onnx")
    return Refusal(folder / "model.onnx", "it is an ONNX file; .*Open the PyTorch checkpoint that it was exported from")


@add("onnx.save, as PyTorch's exporter signs it")
def graph_of_torch(folder: Path) -> Made:
    onnx.save(_graph("pytorch"), folder / "model.onnx")
    return Refusal(folder / "model.onnx", "it is an ONNX file; .*Open the PyTorch checkpoint that it was exported from")


@add("onnx.save, by a program of another name")
def graph_of_others(folder: Path) -> Made:
    onnx.save(_graph("tf2onnx"), folder / "model.onnx")
    return Refusal(folder / "model.onnx", "it is an ONNX")
