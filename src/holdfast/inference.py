"""The one forward pass that evaluation, `val` and `predict` share, so that they agree to the last bit.

A convolution over 16 pictures and one over 3 may run different kernels and differ in the last bit. So every forward
pass outside training has one fixed size: the last batch is padded with zeros, and the padding's rows are thrown away.
With the size fixed, a picture's row does not depend on where it stands or on its neighbours; a test
holds that for every family of models we ship.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.randomness import derive_seed, seed_generators

CPU_BATCH_SIZE = 16
ACCELERATOR_BATCH_SIZE = 128


def fixed_batch_size(device: torch.device) -> int:
    """Returns the size of every forward pass on `device`: small on a CPU, so that one picture is not slow."""
    return CPU_BATCH_SIZE if device.type == "cpu" else ACCELERATOR_BATCH_SIZE


def choose_device(name: str = "auto") -> torch.device:
    """Returns the device called `name`; "auto" takes CUDA, then Apple's GPU, then the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"The device {name!r} cannot be used here ({str(error).splitlines()[0]}). Try --device auto."
        ) from error
    return device


@torch.inference_mode()
def forward_fixed(model: nn.Module, inputs: Tensor, precision: str = "fp32") -> Tensor:
    """Runs `model` over `inputs` in forward passes of one fixed size and returns float32 outputs, row for row.

    The model is put into eval mode and left there. Its generators are seeded the same before each pass, so a model
    that draws random numbers in eval mode (`dynamic`) draws the same ones for every picture.

    Args:
        model: any module that maps `[B, ...]` to `[B, K]`, on the device of `inputs`.
        inputs: `[N, C, H, W]` float32, N ≥ 1, already transformed.
        precision: "fp32" or "bf16" (autocast).

    Returns:
        `[N, K]` float32 on the same device.
    """
    model.eval()
    size = fixed_batch_size(inputs.device)
    outputs = []
    for chunk in inputs.split(size):
        num_real = len(chunk)
        if num_real < size:
            chunk = torch.cat([chunk, chunk.new_zeros(size - num_real, *chunk.shape[1:])])  # noqa: PLW2901
        seed_generators(derive_seed("evaluate"), cuda=inputs.is_cuda)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs.append(model(chunk)[:num_real].float())
    return torch.cat(outputs)
