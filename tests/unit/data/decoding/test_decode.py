import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from holdfast.data.decoding import decode, jpeg_pixels, tiff_samples
from holdfast.data.decoding.decode import Decoder, decode_image, torchcodec_version
from holdfast.errors import DataError

needs_torchcodec = pytest.mark.skipif(torchcodec_version() is None, reason="torchcodec cannot be loaded here")
both_decoders = pytest.mark.parametrize(
    "decoder", ["auto", pytest.param("torchcodec", marks=needs_torchcodec), "pillow"]
)


def noise(height: int = 20, width: int = 28, channels: int = 3) -> Image.Image:
    """A picture of random pixels: no two of its eight orientations are alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of `image` as a file of this kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tensor(image: Image.Image) -> Tensor:
    """The pixels of an RGB or grey picture, `[C, H, W]`."""
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def png_by_hand(
    width: int, height: int, bits: int, colour_type: int, rows: list[bytes], transparent: bytes = b""
) -> bytes:
    """A PNG of a depth that Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


class TestOrientation:
    """Pictures stand upright."""

    @both_decoders
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_orientation_is_turned_upright_exactly_as_pillow_does(
        self, orientation: int, kind: str, decoder: Decoder
    ) -> None:
        """Each of the eight EXIF orientations gives the pixels of Pillow's exif_transpose."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(noise(), kind, exif=exif.tobytes())
        expected = tensor(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert expected.shape == ((3, 28, 20) if orientation >= 5 else (3, 20, 28))
        assert torch.equal(decode_image(data, decoder=decoder), expected)

    @both_decoders
    @pytest.mark.parametrize("orientation", [0, 9])
    def test_an_orientation_outside_1_to_8_leaves_the_picture_as_it_is(
        self, orientation: int, decoder: Decoder
    ) -> None:
        """Values that EXIF does not define turn nothing."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(noise(), "PNG", exif=exif.tobytes())
        assert torch.equal(decode_image(data, decoder=decoder), tensor(noise()))

    @both_decoders
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_an_orientation_stated_in_xmp_only_is_followed(self, kind: str, decoder: Decoder) -> None:
        """A picture whose XMP packet, not its EXIF, says that it lies on its side is turned too."""
        packet = '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        if kind == "PNG":
            info = PngInfo()
            info.add_itxt("XML:com.adobe.xmp", packet)
            data = encoded(noise(), kind, pnginfo=info)
        else:
            data = encoded(noise(), kind, xmp=packet.encode())
        expected = tensor(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert expected.shape == (3, 28, 20)
        assert torch.equal(decode_image(data, decoder=decoder), expected)

    @both_decoders
    def test_a_real_photograph_held_upright_stands_upright(self, real_data: Path, decoder: Decoder) -> None:
        """A camera's JPEG of 2048 × 1536 with orientation 6 is 1536 wide and 2048 high, to the pixel as by Pillow."""
        path = real_data / "large_photos" / "camera_canon_hdr_NO.jpg"
        expected = tensor(ImageOps.exif_transpose(Image.open(path)))
        assert expected.shape == (3, 2048, 1536)
        assert torch.equal(decode_image(path, decoder=decoder), expected)


class TestDepth:
    """Depths other than 8 bits."""

    @both_decoders
    def test_16_bit_grey_is_scaled_and_not_clipped(self, decoder: Decoder) -> None:
        """A 16-bit grey PNG is divided by 257 and rounded, over its whole range."""
        values = np.array([[0, 128, 129, 256, 257, 32768, 65406, 65407, 65535]], dtype=">u2")
        data = png_by_hand(9, 1, 16, 0, [values[0].tobytes()])
        expected = [0, 0, 1, 1, 1, 128, 254, 255, 255]
        assert decode_image(data, 1, decoder).flatten().tolist() == expected
        assert decode_image(data, 3, decoder).tolist() == [[expected]] * 3

    @both_decoders
    def test_16_bit_colour_is_scaled_as_16_bit_grey_is(self, decoder: Decoder) -> None:
        """A 16-bit RGB PNG is divided by 257 and rounded, though Pillow alone would take the high bytes."""
        values = np.random.default_rng(0).integers(0, 65536, (6, 5, 3)).astype(">u2")
        data = png_by_hand(5, 6, 16, 2, [row.tobytes() for row in values])
        exact = torch.from_numpy(np.rint(values.astype(np.float64) / 257)).permute(2, 0, 1)
        assert torch.equal(decode_image(data, decoder=decoder).double(), exact)

    def test_32_bit_grey_is_scaled_by_its_maximum(self) -> None:
        """Integers beyond 16 bits keep their proportions."""
        image = Image.fromarray(np.array([[0, 500_000, 1_000_000]], dtype=np.int32))
        assert decode_image(encoded(image, "TIFF"), 1).flatten().tolist() == [0, 128, 255]

    def test_float_pictures_in_0_to_1_fill_the_range(self) -> None:
        """A float TIFF with values up to one becomes 0 … 255."""
        image = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
        assert decode_image(encoded(image, "TIFF"), 1).flatten().tolist() == [0, 128, 255]

    @both_decoders
    @pytest.mark.parametrize(
        ("bits", "row", "expected"),
        [
            (1, b"\x1b", [0, 0, 0, 255, 255, 0, 255, 255]),
            (2, b"\x1b\x1b", [0, 85, 170, 255, 0, 85, 170, 255]),
            (4, b"\x01\x23\xcd\xef", [0, 17, 34, 51, 204, 221, 238, 255]),
        ],
    )
    def test_fewer_than_8_bits_fill_the_range(
        self, bits: int, row: bytes, expected: list[int], decoder: Decoder
    ) -> None:
        """Grey PNGs of 1, 2 and 4 bits run from 0 to 255."""
        data = png_by_hand(8, 1, bits, 0, [row])
        assert decode_image(data, 1, decoder).flatten().tolist() == expected
        assert decode_image(data, 3, decoder).tolist() == [[expected]] * 3


class TestColour:
    """Colour models other than RGB."""

    @both_decoders
    def test_grey_pictures_become_three_equal_channels(self, decoder: Decoder) -> None:
        """A grey JPEG asked for in RGB repeats its one channel."""
        data = encoded(noise(channels=1), "JPEG")
        grey = decode_image(data, 1, decoder)
        assert grey.shape == (1, 20, 28)
        assert torch.equal(decode_image(data, 3, decoder), grey.expand(3, -1, -1))

    @both_decoders
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_colour_asked_for_as_grey_is_pillows_luma(self, kind: str, decoder: Decoder) -> None:
        """RGB to grey is Pillow's convert("L"), to the bit, whichever decoder read the file."""
        data = encoded(noise(), kind)
        assert torch.equal(decode_image(data, 1, decoder), tensor(Image.open(io.BytesIO(data)).convert("L")))

    @both_decoders
    def test_a_palette_is_looked_up(self, decoder: Decoder) -> None:
        """A palette PNG gives the palette's colours."""
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 210, 220])
        image.putdata([0, 1])
        assert decode_image(encoded(image, "PNG"), decoder=decoder).tolist() == [[[10, 200]], [[20, 210]], [[30, 220]]]

    @both_decoders
    def test_a_transparent_palette_entry_shows_white(self, decoder: Decoder) -> None:
        """The palette entry that a PNG declares transparent becomes white, the other keeps its colour."""
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 210, 220])
        image.putdata([0, 1])
        data = encoded(image, "PNG", transparency=0)
        assert decode_image(data, decoder=decoder).tolist() == [[[255, 200]], [[255, 210]], [[255, 220]]]

    @both_decoders
    @pytest.mark.parametrize(
        ("colour_type", "row", "transparent", "expected"),
        [(0, b"\x0a\x14", b"\x00\x0a", [255, 20]), (2, b"\x0a\x0b\x0c\x14\x14\x14", b"\0\x0a\0\x0b\0\x0c", [255, 20])],
    )
    def test_a_transparent_colour_shows_white(
        self, colour_type: int, row: bytes, transparent: bytes, expected: list[int], decoder: Decoder
    ) -> None:
        """Grey and RGB PNGs that declare one colour transparent show white in its place."""
        data = png_by_hand(2, 1, 8, colour_type, [row], transparent)
        assert decode_image(data, decoder=decoder).tolist() == [[expected]] * 3

    @both_decoders
    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_laid_on_white(self, mode: str, decoder: Decoder) -> None:
        """Opaque black stays black, clear black is white, and half clear black is mid-grey."""
        image = Image.new("RGBA", (3, 1))
        image.putdata([(0, 0, 0, 255), (0, 0, 0, 0), (0, 0, 0, 128)])
        data = encoded(image.convert(mode), "PNG")
        assert decode_image(data, 3, decoder).tolist() == [[[0, 255, 127]]] * 3
        assert decode_image(data, 1, decoder).flatten().tolist() == [0, 255, 127]

    @both_decoders
    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_becomes_rgb(self, kind: str, decoder: Decoder) -> None:
        """A CMYK file gives Pillow's RGB of it: full cyan is (0, 255, 255)."""
        data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), kind)
        pixels = decode_image(data, decoder=decoder)
        assert pixels[:, 0, 0].tolist() == [0, 255, 255]
        assert torch.equal(pixels, tensor(Image.open(io.BytesIO(data)).convert("RGB")))

    def test_black_and_white_pictures_are_0_and_255(self) -> None:
        """A 1-bit TIFF has no other values."""
        image = Image.new("1", (2, 1))
        image.putdata([0, 1])
        assert decode_image(encoded(image, "TIFF"), 1).flatten().tolist() == [0, 255]


class TestFrames:
    """Files of several frames."""

    @both_decoders
    @pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
    def test_the_first_frame_of_an_animation_is_taken(self, kind: str, decoder: Decoder) -> None:
        """Of red, green and blue frames the picture is red."""
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00", "#0000ff")]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert Image.open(io.BytesIO(data)).n_frames == 3
        pixels = decode_image(data, decoder=decoder)
        assert pixels.shape == (3, 8, 8)
        assert pixels[:, 4, 4].tolist() == [255, 0, 0]


class TestAgreement:
    """The two decoders, side by side."""

    @needs_torchcodec
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {"quality": 75}),
            ("JPEG", {"quality": 95, "subsampling": 0}),
            ("JPEG", {"quality": 30, "subsampling": 2, "progressive": True}),
            ("PNG", {}),
        ],
    )
    @pytest.mark.parametrize("channels", [1, 3])
    def test_both_decoders_give_the_same_pixels(self, kind: str, options: dict[str, object], channels: int) -> None:
        """JPEG (whole and halved colour, progressive) and PNG decode alike, with no tolerance, at odd sizes."""
        data = encoded(noise(37, 53), kind, **options)
        assert torch.equal(decode_image(data, channels, "torchcodec"), decode_image(data, channels, "pillow"))

    @needs_torchcodec
    def test_both_decoders_agree_on_real_pictures(self, real_data: Path) -> None:
        """Ants, bees, photographs and scans decode to equal pixels, with no tolerance."""
        small = sorted((real_data / "hymenoptera_data").glob("*/*/*"))[::12]
        large = [p for p in sorted((real_data / "large_photos").glob("*.jp*g")) if p.stat().st_size < 450_000]
        large += sorted((real_data / "large_photos").glob("*.JPEG"))[:3]
        assert len(small) >= 30
        assert len(large) >= 8
        for path in small + large:
            pixels = decode_image(path)
            assert torch.equal(pixels, decode_image(path, decoder="pillow")), path.name
            assert torch.equal(pixels, decode_image(path, decoder="torchcodec")), path.name

    def test_pillow_stands_in_where_torchcodec_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without torchcodec the same bytes give the same pixels."""
        data = encoded(noise(), "JPEG")
        expected = decode_image(data)
        monkeypatch.setattr(decode, "torchcodec_version", lambda: None)
        assert torch.equal(decode_image(data), expected)

    def test_without_simplejpeg_a_jpeg_decodes_to_the_same_pixels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where simplejpeg is missing, others give the pixels; a JPEG without its end is still refused."""
        data = encoded(noise(), "JPEG")
        expected = decode_image(data)
        monkeypatch.setattr(decode, "simplejpeg_version", lambda: None)
        monkeypatch.setattr(jpeg_pixels, "simplejpeg_version", lambda: None)
        assert torch.equal(decode_image(data), expected)
        with pytest.raises(DataError, match="without its end marker"):
            decode_image(data[:-2])

    def test_without_tifffile_deep_tiffs_are_pillows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where tifffile is missing, 16-bit grey and colour are the same, and planes of 16 bits are never misread."""
        deep = np.random.default_rng(0).integers(0, 65536, (6, 5), dtype=np.uint16)
        data = encoded(Image.fromarray(deep), "TIFF")
        expected = decode_image(data)
        monkeypatch.setattr(tiff_samples, "tifffile_version", lambda: None)
        assert torch.equal(decode_image(data), expected)

    def test_threads_leave_the_warning_filters_as_they_were(self) -> None:
        """Many threads that quieten Pillow at once put back what they found, and none of them warns."""
        data = encoded(noise(), "BMP")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda _: decode_image(data).sum().item(), range(300)))) == 1
        assert warnings.filters == before

    def test_insisting_on_torchcodec_fails_when_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A decoder that was asked for by name is not silently replaced."""
        monkeypatch.setattr(decode, "torchcodec_version", lambda: None)
        with pytest.raises(DataError, match="torchcodec was asked for as the decoder and cannot be loaded"):
            decode_image(encoded(noise(), "JPEG"), decoder="torchcodec")


class TestCutShort:
    """Files that end early or are damaged."""

    @both_decoders
    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"comment": b"thumbnail \xff\xd8 \xff\xd9 end"}])
    def test_a_jpeg_cut_anywhere_is_refused(self, tmp_path: Path, options: dict[str, object], decoder: Decoder) -> None:
        """No proper beginning of a JPEG passes, not even one that holds an end marker in its metadata."""
        whole = encoded(noise(), "JPEG", **options)
        path = tmp_path / "cut.jpg"
        for cut in [*range(1, len(whole), 41), len(whole) - 2, len(whole) - 1]:
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError) as caught:
                decode_image(path, decoder=decoder)
            assert str(caught.value).startswith(f"{path}: ")
            assert "damaged or cut short" in str(caught.value) or "not an image" in str(caught.value)

    @both_decoders
    @pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
    def test_other_files_cut_anywhere_are_refused_or_whole(self, kind: str, decoder: Decoder) -> None:
        """A beginning of a file is refused, or holds every pixel (only what follows the pixels was lost)."""
        whole = encoded(noise(), kind)
        expected = decode_image(whole)
        refused = 0
        for cut in [*range(1, len(whole), 61), len(whole) // 2]:
            try:
                pixels = decode_image(whole[:cut], decoder=decoder)
            except DataError:
                refused += 1
            else:
                assert torch.equal(pixels, expected), f"{cut} of {len(whole)} bytes"
                assert cut > len(whole) * 0.9
        assert refused > 10

    @both_decoders
    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
    def test_a_picture_cut_within_its_pixels_is_named(
        self, tmp_path: Path, kind: str, part: float, decoder: Decoder
    ) -> None:
        """The message is the path and what is wrong with it, and chains the decoder's own."""
        path = tmp_path / "half here.jpg"
        data = encoded(noise(64, 64), kind)
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(DataError) as caught:
            decode_image(path, decoder=decoder)
        assert str(caught.value).startswith(f"{path}: damaged or cut short (")
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
    def test_any_damage_gives_a_picture_or_a_data_error(self, kind: str) -> None:
        """However bytes are changed, nothing but DataError is raised and nothing but `[3, H, W]` uint8 comes back."""
        generator = np.random.default_rng(7)
        whole = encoded(noise(), kind)
        refused = 0
        for _ in range(150):
            damaged = bytearray(whole)
            for place in generator.integers(0, min(len(whole), 160), 4):
                damaged[place] = generator.integers(0, 256)
            try:
                pixels = decode_image(bytes(damaged))
            except DataError:
                refused += 1
            else:
                assert pixels.dtype == torch.uint8
                assert pixels.ndim == 3
                assert len(pixels) == 3
        assert refused > 5


class TestNotAnImage:
    """Files that are something else."""

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "the file is empty (0 bytes)."),
            (b"hello, this is text\n", "not an image (it looks like text: 20 bytes that no decoder recognises)."),
            (b"<!DOCTYPE html>\n<html><body>404</body></html>", "not an image (it looks like a web page)."),
            (b"  \n<HTML><body>moved</body></HTML>", "not an image (it looks like a web page)."),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
                "not an image (it is a Git LFS pointer; run `git lfs pull`).",
            ),
            (bytes(5000), "not an image (it is all zeros)."),
        ],
    )
    def test_the_message_says_what_the_file_is_instead(self, tmp_path: Path, data: bytes, message: str) -> None:
        """An empty file, text, a web page, a Git LFS pointer and a hole are each called what they are, by name."""
        path = tmp_path / "picture.jpg"
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            decode_image(path)
        assert str(caught.value) == f"{path}: {message}"
        with pytest.raises(DataError) as caught:
            decode_image(data)
        assert str(caught.value) == message

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A path where nothing is says so."""
        with pytest.raises(DataError, match=r"gone\.jpg: cannot be read \(No such file or directory\)\.$"):
            decode_image(tmp_path / "gone.jpg")

    def test_a_folder_is_named(self, tmp_path: Path) -> None:
        """A folder with a picture's name is not a picture."""
        with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)\.$"):
            decode_image(tmp_path)

    @pytest.mark.parametrize("limit", [300, 500])
    def test_a_decompression_bomb_is_refused(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        """A picture beyond Pillow's limit of pixels, by a little or by more than twice, is refused before decoding."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            DataError, match=rf"^refused as a decompression bomb \(28 × .. is \S+ pixels, and at most {limit} are"
        ):
            decode_image(encoded(noise(20 if limit == 500 else 40, 28), "PNG"))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"P4\n90000 90000\n", "(8,100,000,000 pixels, and at most 89,478,485 are decoded)."),
            (b"P4\n10000 10000\n", "(10000 × 10000 is 100,000,000 pixels, and at most 89,478,485 are decoded)."),
            (b"P6\n" + b"1" * 99 + b" 2\n255\n", "(Token too long in file header: 11111111111)."),
        ],
    )
    def test_what_pillow_says_is_put_in_our_words(self, data: bytes, message: str) -> None:
        """The limit named is the one that holds, and no message is Python's notation of bytes."""
        with pytest.raises(DataError) as caught:
            decode_image(data)
        assert str(caught.value).endswith(message)

    def test_odd_metadata_warns_nobody(self) -> None:
        """Warnings that Pillow gives on opening a picture do not reach the user's terminal."""
        data = bytearray(encoded(noise(), "TIFF"))
        entries = struct.unpack_from("<H", data, struct.unpack_from("<I", data, 4)[0])[0]
        place = struct.unpack_from("<I", data, 4)[0] + 2 + 12 * (entries - 1)
        # Its last tag, now one that says nothing of its pixels, points outside the file.
        data[place : place + 12] = struct.pack("<HHII", 34377, 1, 1 << 20, 1 << 20)
        with pytest.warns(UserWarning, match="Metadata Warning|Tag data larger"):
            Image.open(io.BytesIO(data))
        assert torch.equal(decode_image(bytes(data)), tensor(noise()))


@pytest.mark.parametrize("format_name", ["EPS", "ICO", "PDF"])
def test_formats_that_are_no_pictures_of_ours_fail(tmp_path: Path, format_name: str) -> None:
    """An EPS would start Ghostscript, and nothing we read runs a program: it is refused under any name."""
    path = tmp_path / "innocent.jpg"
    Image.new("RGB", (32, 32)).save(path, format_name)
    with pytest.raises(DataError, match=r"innocent\.jpg: not an image"):
        decode_image(path)
