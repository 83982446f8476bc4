"""A labelled grid of pictures, as a person would want to see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from holdfast.data.preprocessing.transforms import Preprocessing

_CAPTION_HEIGHT, _MARGIN = 16, 4


def draw_grid(
    images: Sequence[Tensor],
    captions: Sequence[str],
    columns: int = 8,
    cell: int = 128,
    points: Sequence[Tensor] | None = None,
) -> Image.Image:
    """Draws pictures in a grid with a caption below each.

    Args:
        images: each `[C, H, W]`, C of 1 or 3, uint8 in [0, 255] or float in [0, 1]; sizes may differ.
        captions: one line each, cut to fit.
        columns: pictures in a row.
        cell: side of the square that each picture is fitted into, in pixels.
        points: for each picture `[P, 2]`, x and y in its pixels, counted from the middle of the first; NaN for none.
            Those off the picture are drawn as far as the cell goes.
    """
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    width = columns * (cell + _MARGIN) + _MARGIN
    height = rows * (cell + _CAPTION_HEIGHT + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _MARGIN + place % columns * (cell + _MARGIN)
        y = _MARGIN + place // columns * (cell + _CAPTION_HEIGHT + _MARGIN)
        picture = _to_pil(image)
        scale = cell / max(picture.size)
        # Tiny pictures (digits) keep hard pixels, so that one sees what the network gets.
        method = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
        picture = picture.resize([max(1, round(side * scale)) for side in picture.size], method)
        left, top = x + (cell - picture.width) // 2, y + (cell - picture.height) // 2
        sheet.paste(picture, (left, top))
        if points is not None:
            _draw_points(draw, (points[place].double() + 0.5) * scale + torch.tensor([left, top]), (x, y, cell))
        while caption and draw.textlength(caption, font) > cell:
            caption = caption[:-2].rstrip() + "…" if len(caption) > 2 else ""  # noqa: PLW2901
        draw.text((x + cell // 2, y + cell + 1), caption, fill=(0, 0, 0), font=font, anchor="ma")
    return sheet


def _draw_points(draw: ImageDraw.ImageDraw, points: Tensor, square: tuple[int, int, int]) -> None:
    """Draws dots at `[P, 2]` on the sheet; those beyond the picture's square (left, top, side) would lie on others."""
    left, top, side = square
    radius = max(1.0, side / 100)
    for x, y in points.tolist():
        if left <= x <= left + side and top <= y <= top + side:  # not so for NaN
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(0, 230, 90), outline=(0, 60, 20))


def unnormalise(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turns a network input `[C, S, S]` float32 back into a picture, float in [0, 1]."""
    mean = torch.tensor(preprocessing.mean)[:, None, None]
    std = torch.tensor(preprocessing.std)[:, None, None]
    return (image.cpu() * std + mean).clamp(0, 1)


def _to_pil(image: Tensor) -> Image.Image:
    values = image.detach().cpu()
    if values.dtype != torch.uint8:
        values = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    array = values.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)).convert("RGB")
