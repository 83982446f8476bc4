import dataclasses
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
import xxhash
from PIL import Image

from holdfast.data import read_folder
from holdfast.data.check import CheckedFile, check_file, check_files, short_findings


def test_sound_files_have_size_and_digest_and_no_problem(picture_folder: Path) -> None:
    """Every file is read in order; its size and the digest of its bytes are told, and progress is counted up."""
    pictures = read_folder(picture_folder).pictures
    progress: list[int] = []
    results = check_files(pictures, progress.append)
    assert progress == list(range(1, 25))
    for index, result in enumerate(results):
        data = pictures.path(index).read_bytes()
        assert result == CheckedFile(len(data), xxhash.xxh3_128_hexdigest(data), None)


def test_every_bad_file_is_named_with_what_is_wrong(picture_folder: Path) -> None:
    """Of 24 files a cut one, an empty one, a text and a missing one are each told by path, and the rest are sound."""
    pictures = read_folder(picture_folder).pictures
    cut, empty, text, gone = (pictures.path(i) for i in (2, 9, 17, 23))
    cut.write_bytes(cut.read_bytes()[:-100])
    empty.write_bytes(b"")
    text.write_text("<html>not found</html>")
    gone.unlink()
    problems = {i: r.problem for i, r in enumerate(check_files(pictures)) if r.problem}
    assert list(problems) == [2, 9, 17, 23]
    assert problems[2].startswith(f"{cut}: damaged or cut short (")
    assert problems[9] == f"{empty}: the file is empty (0 bytes)"
    assert problems[17] == f"{text}: not an image (it looks like a web page)"
    assert problems[23] == f"{gone}: cannot be read (No such file or directory)"


def test_an_odd_name_is_told_in_one_line(tmp_path: Path) -> None:
    """Line breaks and a terminal's control codes in a name are escaped where a problem is listed."""
    folder, other = tmp_path / "a", tmp_path / "b"
    for one in (folder, other):
        one.mkdir()
    Image.new("RGB", (4, 4)).save(other / "good.png")
    odd = folder / "new\nline\x1b[31m.jpg"
    odd.write_bytes(b"")
    told = f"{folder}/new\\nline\\x1b[31m.jpg: the file is empty (0 bytes)"
    assert [one.problem for one in check_files(read_folder(tmp_path).pictures)] == [told, None]
    assert check_file(odd).problem == told


def test_a_bad_file_still_has_size_and_digest(tmp_path: Path) -> None:
    """What was there is recorded even when it is no picture; what could not be read has neither."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"text")
    assert (check_file(path).num_bytes, check_file(path).digest) == (4, xxhash.xxh3_128_hexdigest(b"text"))
    missing = check_file(tmp_path / "b.jpg")
    assert (missing.num_bytes, missing.digest) == (-1, "")


def test_the_real_ants_and_bees_are_sound(real_data: Path) -> None:
    """All 153 validation pictures of the tutorial's set decode to the end."""
    pictures = read_folder(real_data / "hymenoptera_data").pictures
    results = [check_file(pictures.path(i)) for i in range(245, 398, 3)]
    assert [result.problem for result in results] == [None] * 51


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_number_of_threads_is_put_back(picture_folder: Path, num_threads: int) -> None:
    """The check runs torch on one thread and leaves its setting as it was."""
    torch.set_num_threads(num_threads)
    check_files(read_folder(picture_folder).pictures)
    assert torch.get_num_threads() == num_threads


def test_an_interrupted_check_puts_the_threads_back(picture_folder: Path) -> None:
    """Whatever the caller's progress function raises comes through, and the setting is put back."""
    torch.set_num_threads(2)

    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_files(read_folder(picture_folder).pictures, stop)
    assert torch.get_num_threads() == 2


def test_leaks_between_given_sets_are_told_exact_and_near(faulty: ModuleType, tmp_path: Path) -> None:
    """A copy in val and one of another size in test are a warning each; without likenesses the second is not known."""
    root = faulty.make_sound_folder(tmp_path)
    shutil.copy(root / "train/ants/0.jpg", root / "val/ants/leak.jpg")
    (root / "test/ants/resaved.jpg").write_bytes(faulty.jpeg(4, (60, 45), 60))  # train/ants/3.jpg
    (root / "train/bees/almost.jpg").write_bytes(faulty.jpeg(5, (192, 144), 70))  # two labels in one set: not ours
    collection = read_folder(root)
    found = short_findings(collection, check_files(collection.pictures, likeness=True))
    assert [one.code for one in found] == ["duplicate-across-sets", "near-duplicate-across-sets"]
    assert {one.severity for one in found} == {"warning"}
    assert len(short_findings(collection, check_files(collection.pictures))) == 1


def test_a_picture_in_no_set_leaks_nowhere(faulty: ModuleType, tmp_path: Path) -> None:
    """A table that leaves a copy out of every set makes no leak of it."""
    root = faulty.make_sound_folder(tmp_path)
    shutil.copy(root / "train/ants/0.jpg", root / "val/ants/leak.jpg")
    collection = read_folder(root)
    leak = next(i for i in range(len(collection.pictures)) if "leak" in collection.pictures.name(i))
    sets = {name: members[members != leak] for name, members in collection.sets.items()}
    checked = check_files(collection.pictures, likeness=True)
    assert short_findings(dataclasses.replace(collection, sets=sets), checked) == []
