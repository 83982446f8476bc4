from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from holdfast.data import ImageFolder
from holdfast.data.cache.key import Prefix, content_digest, picture_key, read_content_digests, recipe_bytes
from holdfast.data.preprocessing.transforms import AUGMENTATIONS, Preprocessing, eval_transform, train_transform
from holdfast.randomness import seed_generators

_SIDES = st.integers(1, 90)


def _picture(height: int, width: int) -> torch.Tensor:
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(height * 91 + width))
    return pixels.byte().permute(2, 0, 1)


@given(height=_SIDES, width=_SIDES, side=_SIDES)
def test_a_prefix_only_scales_down_unless_it_is_told(height: int, width: int, side: int) -> None:
    """The short side is `side` afterwards, or what it was when that was less."""
    result = Prefix(side)(_picture(height, width))
    assert min(result.shape[1:]) == min(height, width, side) and result.dtype == torch.uint8
    if min(height, width) <= side:
        assert torch.equal(result, _picture(height, width))


@given(height=_SIDES, width=_SIDES, side=_SIDES, square=st.booleans())
def test_a_prefix_that_was_done_is_done(height: int, width: int, side: int, square: bool) -> None:
    """Done again, it changes nothing; and its size is what was estimated, about."""
    prefix = Prefix(side, enlarge=not square, square=square)
    once = prefix(_picture(height, width))
    assert torch.equal(prefix(once), once) and prefix.is_repeated
    assert once[0].numel() == pytest.approx(prefix.num_pixels(height, width), abs=2 * side)


@given(
    height=st.integers(20, 90), width=st.integers(20, 90), interpolation=st.sampled_from(["bilinear", "bicubic"]),
    augmentation=st.sampled_from(["none", "shift", "affine", "shift+flip"]),
)  # fmt: skip
def test_the_first_step_of_a_transform_may_be_done_before(
    height: int, width: int, interpolation: str, augmentation: str
) -> None:
    """The transform of a picture that was resized before is, bit for bit, that of the picture."""
    p = Preprocessing(32, 37, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), interpolation)
    picture = _picture(height, width)
    if augmentation == "none":
        prefix, transform = Prefix(37, enlarge=True, interpolation=interpolation), eval_transform(p)
    else:
        prefix = Prefix(32, square=True, interpolation=interpolation)
        transform = train_transform(p, augmentation)
    seed_generators(5)
    whole = transform(picture)
    seed_generators(5)
    assert torch.equal(transform(prefix(picture)), whole)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_layout_in_memory_changes_no_bit(augmentation: str, interpolation: str) -> None:
    """A transform gives the same for channels first and channels last."""
    p = Preprocessing(32, 37, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), interpolation)
    transform = train_transform(p, augmentation)
    for seed in range(6):
        picture = _picture(60 + seed, 71)
        seed_generators(seed)
        last = transform(picture)
        seed_generators(seed)
        assert torch.equal(transform(picture.contiguous()), last)


def test_a_full_size_prefix_does_nothing() -> None:
    """It returns the very picture, and estimates its own size."""
    picture = _picture(5, 9)
    assert Prefix()(picture) is picture and Prefix().num_pixels(5, 9) == 45 and not Prefix().is_repeated


def test_a_file_is_known_by_what_it_holds(picture_folder: Path) -> None:
    """Renaming changes nothing, another content does, and a file that is gone has none."""
    before = ImageFolder(picture_folder)
    digests = read_content_digests(before)
    assert digests.shape == (24, 16) and len({row.tobytes() for row in digests}) == 24
    (picture_folder / "blue/0.jpg").rename(picture_folder / "blue/00.jpg")
    after = ImageFolder(picture_folder)
    assert content_digest(after, after.paths.index("blue/00.jpg")) == digests[0].tobytes()
    assert content_digest(before, 0) is None and not read_content_digests(before)[0].any()


def test_a_key_tells_everything_apart_that_changes_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contents, size, interpolation, decoder, channels and the programs' versions are all in it."""
    recipes = [
        recipe_bytes(prefix, decoder, channels)
        for prefix in (Prefix(), Prefix(32), Prefix(33), Prefix(32, enlarge=True), Prefix(32, square=True),
                       Prefix(32, interpolation="bicubic"))
        for decoder in ("auto", "pillow")
        for channels in (1, 3)
    ]  # fmt: skip
    monkeypatch.setattr("holdfast.data.cache.key._programs", lambda: ("another",))
    recipes.append(recipe_bytes(Prefix(), "auto", 3))
    keys = {picture_key(content, recipe) for content in (b"a" * 16, b"b" * 16) for recipe in recipes}
    assert len(keys) == 2 * len(recipes) == 50 and all(len(key) == 16 for key in keys)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.95])
def test_pictures_for_crops_keep_the_detail_of_one_resize(share: float) -> None:
    """Cut out of a picture of two crops, a crop's neighbouring pixels differ nearly as in one of the whole picture."""

    def detail(pixels: torch.Tensor) -> float:
        return float(pixels.float().diff(dim=-1).square().mean() + pixels.float().diff(dim=-2).square().mean())

    size = 64
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 375, 500, generator=generator)
    # Detail at every scale, as in photographs: noise whose spectrum falls with the frequency.
    spectrum = (
        torch.fft.rfft2(noise) / (torch.fft.fftfreq(375)[:, None] ** 2 + torch.fft.rfftfreq(500) ** 2 + 1e-4).sqrt()
    )
    values = torch.fft.irfft2(spectrum, (375, 500))
    picture = ((values - values.amin()) / (values.amax() - values.amin()) * 255).to(torch.uint8)
    kept = Prefix.before_crops(2 * size, scaled=False)(picture)
    side, small = int((share * 375 * 500) ** 0.5) - 1, kept.shape[1] / 375
    side = min(side, 375)
    once = F.resize(picture[:, :side, :side], [size, size], antialias=True)
    twice = F.resize(kept[:, : round(side * small), : round(side * small)], [size, size], antialias=True)
    assert detail(twice) > 0.85 * detail(once)
    bilinear = Prefix(2 * size)(picture)[:, : round(side * small), : round(side * small)]
    assert detail(twice) > 1.05 * detail(F.resize(bilinear, [size, size], antialias=True))
