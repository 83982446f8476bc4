"""A folder with every fault that `holdfast check` knows, and the faults it must name."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

EVIL = "<script>alert(1)<／script> \"quoted\" 'n\new' 🐞.jpg"  # a slash of another kind: no file name has a real one


def picture(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Returns a picture with coarse structure, another for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int, size: tuple[int, int] = (96, 72), quality: int = 90) -> bytes:
    """Returns such a picture as the bytes of a JPEG."""
    data = io.BytesIO()
    picture(seed).resize(size).save(data, "JPEG", quality=quality)
    return data.getvalue()


def make_sound_folder(root: Path, per_class: int = 12) -> Path:
    """Makes train, val and test with two classes of different pictures."""
    seed = 0
    for set_name in ("train", "val", "test"):
        for name in ("ants", "bees"):
            folder = root / set_name / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                seed += 1
                (folder / f"{number}.jpg").write_bytes(jpeg(seed))
    return root


def make_faulty_folder(root: Path) -> Path:
    """Makes a sound folder and breaks it in every way a file or a copy can be wrong; its classes stay trainable."""
    make_sound_folder(root)
    train, val = root / "train/ants", root / "val/ants"
    (train / "empty.jpg").write_bytes(b"")
    (train / "cut.jpg").write_bytes(jpeg(100)[:900])
    (train / "page.jpg").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    (train / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    (train / "zeros.png").write_bytes(bytes(500))
    (train / "bomb.png").write_bytes(_bomb())
    (train / "gone.jpg").symlink_to(root / "nowhere.jpg")
    os.mkfifo(train / "pipe.jpg")
    (train / "folder.jpg").mkdir()
    (train / "folder.jpg" / "inside.jpg").write_bytes(jpeg(101))
    (train / "loop").symlink_to(root / "train", target_is_directory=True)
    picture(102).save(train / "really.png", "JPEG")
    (train / EVIL).write_bytes(jpeg(103)[:700])
    (val / "leak.jpg").write_bytes((train / "0.jpg").read_bytes())
    (root / "train/bees/liar.jpg").write_bytes((train / "1.jpg").read_bytes())
    (train / "twice.jpg").write_bytes((train / "2.jpg").read_bytes())
    (root / "test/ants/resaved.jpg").write_bytes(jpeg(4, (60, 45), 60))  # train/ants/3.jpg
    (root / "train/bees/almost.jpg").write_bytes(jpeg(5, (192, 144), 70))  # train/ants/4.jpg
    _unusual(root / "train/bees")
    for clutter in ("._0.jpg", ".DS_Store", "Thumbs.db"):
        (train / clutter).write_bytes(b"\0\5\x16\7clutter")
    (train / "labels.txt").write_text("0.jpg ant\n")
    return root


def _unusual(folder: Path) -> None:
    sideways = Image.Exif()
    sideways[0x0112] = 6
    picture(110).save(folder / "sideways.jpg", exif=sideways)
    picture(111).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 65535, (40, 50), dtype=np.uint16)).save(folder / "deep.png")
    picture(112).convert("RGBA").save(folder / "alpha.png")
    picture(113).save(folder / "moves.gif", save_all=True, append_images=[picture(114)])
    picture(115).convert("L").save(folder / "grey.jpg")
    picture(116, (300, 40)).save(folder / "long.jpg")
    picture(117, (20, 20)).save(folder / "small.png")


def _bomb() -> bytes:
    data = io.BytesIO()
    Image.new("1", (64, 64)).save(data, "PNG")
    raw = bytearray(data.getvalue())
    raw[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    return bytes(raw)
