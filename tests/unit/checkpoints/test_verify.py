from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from holdfast.checkpoints import CheckpointStore, write_single_file
from holdfast.checkpoints.digest import digest_of
from holdfast.checkpoints.finding import Finding, verify_checkpoint, verify_file
from holdfast.checkpoints.manifest import FILE_NAME
from holdfast.checkpoints.retention import Last
from holdfast.checkpoints.verify import verify_path
from holdfast.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "v1"
UNPROVABLE = (
    "its header and sizes are sound, but it carries no digests (Holdfast did not write it): "
    "a value that was changed would not show"
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three checkpoints, the second of them the best, and its best.safetensors."""
    path = tmp_path / "run"
    store = CheckpointStore(path / "checkpoints", Last(None))
    for step, accuracy in ((100, 0.5), (200, 0.75), (300, 0.625)):
        weight = torch.full((2, 3), float(step))
        parts = {"model": {"a": weight, "b": torch.ones(2), "tied": weight}, "counters": {"epoch": step}}
        store.save(step, parts, {"accuracy": accuracy})
    assert store.steps() == [100, 200, 300]
    write_single_file(path / "best.safetensors", {"a": torch.full((2, 3), 200.0)}, {"step": 200})
    (path / "config.yaml").write_text("model: lenet\n")
    return path


def _step(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08d}"


def _flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _sign(directory: Path, change: Callable[[Any], object]) -> None:
    """Changes the manifest's table and makes its digest right again."""
    table = json.loads((directory / FILE_NAME).read_bytes())
    del table["digest"]
    change(table)
    digest = digest_of((json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode())
    (directory / FILE_NAME).write_text(json.dumps({**table, "digest": digest}, indent=1, ensure_ascii=False) + "\n")


def _found(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.path.name, finding.verdict) for finding in findings]


def _bytes_in(*files: Path) -> int:
    return sum(file.stat().st_size for file in files)


def test_a_sound_run_is_proven_with_all_that_is_in_it(run: Path) -> None:
    """Every checkpoint, by step, and the best file are ok, each with its tensors, files and bytes counted."""
    told: list[Finding] = []
    result = verify_path(str(run), told.append)
    assert result.ok and result.problem is None and result.set_aside == []
    assert _found(result.checkpoints) == [(f"step-00000{step}", "ok") for step in (100, 200, 300)]
    assert _found(result.files) == [("best.safetensors", "ok")]
    assert told == [*result.checkpoints, *result.files]
    files = list(_step(run, 100).iterdir())
    assert result.checkpoints[0] == Finding(
        _step(run, 100), "ok", None, 100, 2, len(files), _bytes_in(*files)
    )  # tied ones count once
    best = run / "best.safetensors"
    assert result.files == [Finding(best, "ok", None, None, 1, 1, _bytes_in(best))]


def test_a_folder_of_checkpoints_and_one_checkpoint_are_proven(run: Path) -> None:
    """The folder by itself, and a checkpoint's directory wherever it was copied to."""
    assert len(verify_path(str(run / "checkpoints")).checkpoints) == 3
    copy = shutil.copytree(_step(run, 200), run / "handed on")
    result = verify_path(str(copy))
    assert result.ok and [finding.step for finding in result.checkpoints] == [200]


@pytest.mark.parametrize(("which", "step"), [("last", 300), ("best", 200), ("100", 100)])
@pytest.mark.parametrize("folder", ["", "checkpoints"])
def test_one_checkpoint_is_chosen_by_its_word(run: Path, which: str, step: int, folder: str) -> None:
    """`@last`, `@best` and `@<step>` prove that one alone, of a run or of a folder of checkpoints."""
    result = verify_path(f"{run / folder}@{which}")
    assert result.ok and result.files == []
    assert [finding.path for finding in result.checkpoints] == [_step(run, step)]


def test_a_path_with_an_at_in_its_name_is_that_path(run: Path) -> None:
    """A name that is there is taken as it stands."""
    copy = shutil.copytree(run, run.with_name("run@last"))
    assert len(verify_path(str(copy)).checkpoints) == 3


def test_every_file_of_a_golden_checkpoint_is_proven() -> None:
    """The oldest version of the format is proven, every kind of tensor and its evaluation included."""
    result = verify_path(str(GOLDEN))
    assert result.ok and [finding.num_files for finding in result.checkpoints] == [7]
    assert verify_path(str(GOLDEN / "model.safetensors")).ok


@pytest.mark.parametrize("file", ["manifest.json", "state.json", "model.safetensors"])
def test_one_flipped_bit_anywhere_is_found(run: Path, file: str) -> None:
    """Whichever of its files was hit, at whichever end, the checkpoint is damaged and the others are ok."""
    whole = (_step(run, 200) / file).read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        _flip(_step(run, 200) / file, position)
        result = verify_path(str(run))
        assert [finding.verdict for finding in result.checkpoints] == ["ok", "damaged", "ok"]
        assert file in str(result.checkpoints[1].problem)
        assert not result.ok
        (_step(run, 200) / file).write_bytes(whole)
    assert verify_path(str(run)).ok


def test_what_was_hit_is_named(run: Path) -> None:
    """Every file that is missing, cut or changed stands in the problem with its tensor, without repeating the path."""
    _flip(_step(run, 100) / "model.safetensors")
    (_step(run, 100) / "state.json").unlink()
    finding = verify_checkpoint(_step(run, 100))
    assert finding.problem == "model.safetensors does not match its digest (damaged: b); state.json is missing"
    assert (finding.step, finding.num_tensors) == (100, 2)
    size = _bytes_in(run / "best.safetensors")
    (run / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes()[:-1])
    assert verify_file(run / "best.safetensors").problem == f"{size - 1} bytes; its header promises {size}."


def test_a_checkpoint_without_its_manifest_is_damaged(run: Path) -> None:
    """What is called a checkpoint and has no manifest is no finished one; its step is that of its name."""
    (_step(run, 300) / FILE_NAME).unlink()
    result = verify_path(str(run))
    assert _found(result.checkpoints)[2] == ("step-00000300", "damaged")
    assert result.checkpoints[2].problem == "has no manifest.json: it is not a finished checkpoint."
    assert (result.checkpoints[2].step, result.checkpoints[2].num_bytes) == (300, None)
    assert _found(verify_path(str(_step(run, 300))).checkpoints) == [("step-00000300", "damaged")]


def test_a_damaged_evaluation_is_found(run: Path) -> None:
    """The one file that no manifest covers is proven by its own digest."""
    store = CheckpointStore(run / "checkpoints", Last(None))
    store.annotate(100, {"accuracy": 0.875})
    assert store.steps() and verify_checkpoint(_step(run, 100)).ok
    path = _step(run, 100) / "evaluation.json"
    path.write_bytes(path.read_bytes().replace(b"0.875", b"0.975"))
    assert "evaluation.json is damaged" in str(verify_checkpoint(_step(run, 100)).problem)


def test_a_renamed_checkpoint_is_not_ok(run: Path) -> None:
    """A name that says another step than the manifest would resume at the wrong place."""
    _step(run, 200).rename(_step(run, 400))
    finding = verify_path(str(run)).checkpoints[2]
    assert (finding.verdict, finding.step) == ("damaged", 200)
    assert finding.problem == "it holds step 200 and was renamed; its name is step-00000200"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t["files"].pop("state.json"), "manifest.json has no digest of state.json"),
        (lambda t: t["files"].pop("model.safetensors"), "manifest.json has no digest of model.safetensors"),
        (
            lambda t: t["parts"]["model"]["tensors"]["b"].update(shape=[1, 2]),
            "b is F32 [2] in model.safetensors, and F32 [1, 2] in manifest.json",
        ),
        (
            lambda t: t["parts"]["model"]["tensors"]["b"].update(digest=digest_of(b"")),
            "model.safetensors does not match its digest (damaged: b)",
        ),
        (
            lambda t: t["parts"]["model"]["tensors"].pop("b"),
            "b is in only one of model.safetensors and manifest.json",
        ),
    ],
)
def test_a_manifest_that_contradicts_its_files_is_not_ok(
    run: Path, change: Callable[[Any], object], problem: str
) -> None:
    """A manifest whose own digest is right, and which leaves a file out or tells another tensor, proves nothing."""
    _sign(_step(run, 100), change)
    finding = verify_checkpoint(_step(run, 100))
    assert (finding.verdict, finding.problem) == ("damaged", problem)


def test_a_newer_format_is_told_as_such(run: Path) -> None:
    """What a newer Holdfast wrote is not called damaged, and is not ok."""
    _sign(_step(run, 100), lambda table: table.update(version=99))
    finding = verify_checkpoint(_step(run, 100))
    assert (finding.verdict, finding.ok, finding.step) == ("newer format", False, 100)
    assert "version 99" in str(finding.problem) and "or newer to open it" in str(finding.problem)


def test_a_file_of_others_is_not_provable(tmp_path: Path) -> None:
    """Header and sizes check out, and still nothing says that its values are those that were saved."""
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({"w": torch.ones(3), "v": torch.ones(2)}, path)
    result = verify_path(str(path))
    assert not result.ok and result.problem is None
    assert result.files == [Finding(path, "not provable", UNPROVABLE, None, 2, 1, _bytes_in(path))]
    path.write_bytes(path.read_bytes()[:-1])
    assert verify_file(path).verdict == "damaged"


def test_a_file_of_a_checkpoint_is_proven_by_the_manifest_beside_it(run: Path) -> None:
    """It carries no digests itself; the manifest it lies beside does."""
    path = _step(run, 100) / "model.safetensors"
    assert verify_file(path) == Finding(path, "ok", None, None, 2, 1, _bytes_in(path))
    _flip(path)
    assert verify_file(path).problem == "model.safetensors does not match its digest (damaged: b)"
    stray = _step(run, 100) / "stray.safetensors"
    safetensors.torch.save_file({"w": torch.ones(3)}, stray)
    assert verify_file(stray).verdict == "not provable"


def test_a_damaged_model_file_names_its_tensor(run: Path) -> None:
    """A changed value in a file to hand on is found by the digests in its header."""
    _flip(run / "best.safetensors")
    result = verify_path(str(run))
    assert [finding.ok for finding in result.checkpoints] == [True, True, True]
    assert result.files[0].problem == "damaged (tensor a does not match its digest)."
    assert not result.ok


def test_a_run_without_a_checkpoint_has_nothing_to_prove(run: Path) -> None:
    """Nothing is damaged, and nothing is proven: the answer is no, whether or not the folder is there."""
    for step in (100, 200, 300):
        shutil.rmtree(_step(run, step))
    result = verify_path(str(run))
    assert (result.ok, result.problem) == (False, "no checkpoint, so nothing is proven")
    assert [finding.ok for finding in result.files] == [True]
    (run / "checkpoints").rmdir()
    assert verify_path(str(run)).problem == "no checkpoint, so nothing is proven"


def test_what_was_set_aside_and_left_over_is_told_and_is_no_failure(run: Path) -> None:
    """Damaged, unfinished and half-deleted ones are listed; the lock of a run is none of these."""
    root = run / "checkpoints"
    for name in ("damaged-step-00000050", "damaged-step-00000050-2", ".holdfast-step-00000400.7"):
        (root / name).mkdir()
    (root / ".holdfast-pruned-60.7").mkdir()
    (root / "notes").mkdir()
    (run / ".holdfast-best.safetensors").write_bytes(b"half")
    (run / ".holdfast-lock").touch()
    result = verify_path(str(run))
    assert result.ok and len(result.checkpoints) == 3
    assert [(aside.path.name, aside.what) for aside in result.set_aside] == [
        (".holdfast-pruned-60.7", "pruned, not yet deleted"),
        (".holdfast-step-00000400.7", "unfinished, or being written"),
        ("damaged-step-00000050", "damaged, set aside before"),
        ("damaged-step-00000050-2", "damaged, set aside before"),
        (".holdfast-best.safetensors", "unfinished, or being written"),
    ]


def test_only_what_was_set_aside_is_no_checkpoint(run: Path) -> None:
    """A folder with nothing but a damaged one put aside proves nothing; asked for by name, it is looked at."""
    root = run / "alone"
    _flip(_step(run, 100) / "model.safetensors")
    shutil.copytree(_step(run, 100), root / "damaged-step-00000100")
    result = verify_path(str(root))
    assert (result.ok, result.checkpoints, len(result.set_aside)) == (False, [], 1)
    assert _found(verify_path(str(root / "damaged-step-00000100")).checkpoints) == [
        ("damaged-step-00000100", "damaged")
    ]


def test_nothing_is_written_or_moved(run: Path) -> None:
    """Damage or not, every name, size and time of modification is afterwards what it was."""

    def state() -> list[tuple[str, int, int]]:
        found = [(str(path), path.stat()) for path in sorted(run.rglob("*"))]
        return [(name, status.st_size, status.st_mtime_ns) for name, status in found]

    _flip(_step(run, 300) / "model.safetensors")
    before = state()
    assert not verify_path(str(run)).ok
    verify_path(f"{run}@best")
    assert state() == before


def test_a_checkpoint_that_is_pruned_meanwhile_is_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that trains on may delete an old one under our hands: that is no damage."""

    def verify_and_lose(path: Path) -> Finding:
        if path == _step(run, 100):
            shutil.rmtree(path)
        return verify_checkpoint(path)

    monkeypatch.setattr("holdfast.checkpoints.verify.verify_checkpoint", verify_and_lose)
    result = verify_path(str(run))
    assert result.ok and [finding.step for finding in result.checkpoints] == [200, 300]


def test_a_sector_that_cannot_be_read_is_damage_with_the_reason(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error ends neither the process nor the list; it is told with the file and the system's reason."""
    real_open = Path.open

    class Failing(io.RawIOBase):
        def readinto(self, _: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def broken_open(path: Path, *arguments: Any, **options: Any) -> Any:
        broken = path in (_step(run, 200) / "model.safetensors", run / "best.safetensors")
        return Failing() if broken and arguments[:1] == ("rb",) else real_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", broken_open)
    result = verify_path(str(run))
    assert [finding.verdict for finding in result.checkpoints] == ["ok", "damaged", "ok"]
    assert result.checkpoints[1].problem == "model.safetensors cannot be read (Input/output error)"
    assert result.files[0].problem == "best.safetensors cannot be read (Input/output error)"


def test_a_path_with_nothing_of_ours_fails(tmp_path: Path, run: Path) -> None:
    """What is not there, a folder of others, another kind of file and a word that chooses nothing: usage errors."""
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "weights.pt").write_bytes(b"PK\x03\x04 and more")
    for spec, problem in (
        ("nowhere", f"there is nothing at {tmp_path / 'nowhere'}. Give a run,"),
        ("empty", "found a folder with nothing of Holdfast's in it. Give a run,"),
        ("weights.pt", "it is not a safetensors file, and files of other kinds carry no digests. Give a run,"),
        ("empty@last", f"{tmp_path / 'empty'} holds no checkpoints to choose 'last' from. Give a run,"),
        ("run@150", "there is no checkpoint '150'. Ask for best, last, or a step: 100, 200, 300."),
        ("run@worst", "there is no checkpoint 'worst'. Ask for best, last, or a step: 100, 200, 300."),
        ("run/best.safetensors@last", "holds no checkpoints to choose 'last' from."),
    ):
        with pytest.raises(ConfigError) as caught:
            verify_path(str(tmp_path / spec))
        assert f"Verifying {tmp_path / spec}: " in str(caught.value) and problem in str(caught.value)


def test_the_best_of_what_was_never_evaluated_fails(tmp_path: Path) -> None:
    """Without a metric none is the best, and the message says what to ask for."""
    store = CheckpointStore(tmp_path / "run")
    store.save(1, {"counters": {"n": 1}})
    assert store.steps() == [1]
    with pytest.raises(CheckpointError, match=r"none is the best\. Ask for the newest: .*run@last\.$"):
        verify_path(f"{tmp_path / 'run'}@best")
    assert verify_path(f"{tmp_path / 'run'}@last").checkpoints[0].num_tensors == 0


def test_a_folder_that_cannot_be_listed_fails(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is an error with its reason, not an empty answer."""

    def refuse(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be listed \(Permission denied\)"):
        verify_path(str(run))


def test_findings_read_as_one_line_each(run: Path) -> None:
    """Name, verdict, and what was counted or what is wrong."""
    path = Path("x/step-00000100")
    assert Finding(path, "ok", None, 100, 12, 3, 1_234_567).line() == ("step-00000100  ok  12 tensors, 3 files, 1.2 MB")
    assert Finding(path, "ok", None, 100, 1, 2, 999).line() == "step-00000100  ok  1 tensor, 2 files, 999 bytes"
    assert Finding(Path("a.safetensors"), "ok", None, None, 0, 1, 2.5e9).line() == (  # type: ignore[arg-type]
        "a.safetensors  ok  0 tensors, 2.50 GB"
    )
    assert Finding(path, "newer format", "of\n tomorrow").line() == "step-00000100  NEWER FORMAT  of tomorrow"
