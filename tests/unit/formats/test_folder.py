from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from holdfast import open_checkpoint
from holdfast.errors import CheckpointCorrupt, CheckpointError, CheckpointMismatch
from holdfast.fitting.class_names import class_names
from holdfast.formats import sniff
from holdfast.formats.folder import about, contents
from holdfast.formats.sniff import Sniffed

WEIGHTS = {"fc.weight": torch.ones(2, 2)}


@pytest.fixture
def trained() -> dict[str, Any]:
    """The states of an optimizer that has stepped and of its schedule."""
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule.step()
    return {"optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()}


def _random_states() -> dict[str, Any]:
    return {"random_state": (3, (1, 2), None), "torch_manual_seed": torch.get_rng_state(), "step": 7}


@pytest.mark.row("S4", "S11")
@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_of_accelerate_opens_as_one(safe: bool, trained: dict[str, Any], tmp_path: Path) -> None:
    """Two models, their optimizers and schedules, random states and an object of one's own."""
    for number in ("", "_1"):
        weights = {"fc.weight": torch.full((2, 2), 1.0 + len(number))}
        if safe:
            safetensors.torch.save_file(weights, tmp_path / f"model{number}.safetensors")
        else:
            torch.save(weights, tmp_path / f"pytorch_model{number}.bin")
        torch.save(trained["optimizer"], tmp_path / f"optimizer{number}.bin")
        torch.save(trained["scheduler"], tmp_path / f"scheduler{number}.bin")
    torch.save(_random_states(), tmp_path / "random_states_0.pkl")
    torch.save({"best": 0.75}, tmp_path / "custom_checkpoint_0.pkl")
    opened = open_checkpoint(tmp_path)
    assert (opened.kind, opened.made_by, opened.path) == ("folder of weights", "accelerate", str(tmp_path))
    assert {role: float(opened.weights(role)["fc.weight"][0, 0]) for role in opened.roles} == {"model": 1, "model_1": 3}
    assert sorted(opened.optimizers) == ["optimizer", "optimizer_1"]
    assert opened.optimizers["optimizer_1"]["param_groups"][0]["lr"] == 0.5
    assert sorted(opened.schedules) == ["scheduler", "scheduler_1"]
    assert opened.metadata["custom_checkpoint_0"] == {"best": 0.75}
    assert opened.metadata["random_states_0"]["step"] == 7


def test_a_checkpoint_of_a_trainer_opens_as_one(trained: dict[str, Any], tmp_path: Path) -> None:
    """Shards with their index, optimizer, schedule, and the trainer's own state."""
    shard = "model-00001-of-00001.safetensors"
    safetensors.torch.save_file(WEIGHTS, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"fc.weight": shard}}))
    torch.save(trained["optimizer"], tmp_path / "optimizer.pt")
    torch.save(trained["scheduler"], tmp_path / "scheduler.pt")
    torch.save({"python": (3, (1,), None), "numpy": np.random.default_rng(0).bytes(9)}, tmp_path / "rng_state.pth")
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 500, "epoch": 2.0}))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "cat"}}))
    opened = open_checkpoint(tmp_path)
    assert opened.made_by == "transformers"
    assert opened.weights()["fc.weight"].tolist() == [[1, 1], [1, 1]]
    assert opened.optimizer is not None and opened.optimizer["param_groups"][0]["lr"] == 0.5
    assert opened.schedules["scheduler"]["last_epoch"] == 1
    assert opened.metadata["trainer_state"]["global_step"] == 500
    assert opened.metadata["config"] == {"id2label": {"0": "cat"}}


@pytest.mark.filterwarnings("ignore:.*torch.distributed is (disabled|unavailable)", "ignore:.*single process")
def test_sharded_parts_within_a_folder_are_read_too(trained: dict[str, Any], tmp_path: Path) -> None:
    """accelerate's FSDP keeps model and optimizer as directories of torch.distributed.checkpoint."""
    for name, state in (("pytorch_model_fsdp_0", {"model": WEIGHTS}), ("optimizer_0", trained)):
        writer = dcp.FileSystemWriter(tmp_path / name)
        dcp.save({k: v for k, v in state.items() if k != "scheduler"}, storage_writer=writer, no_dist=True)
    torch.save(trained["scheduler"], tmp_path / "scheduler.bin")
    opened = open_checkpoint(tmp_path)
    assert opened.weights()["fc.weight"].tolist() == [[1, 1], [1, 1]]
    assert opened.optimizer is not None and opened.optimizer["param_groups"][0]["params"] == [0, 1]
    assert list(opened.schedules) == ["scheduler"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin"], {"model": "model.safetensors"}),
        (["a.safetensors", "b.safetensors"], {}),
        (["adapter_model.safetensors", "notes.txt"], {"model": "adapter_model.safetensors"}),
        (["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            {"model": "model.safetensors.index.json"}),
        (["model-00001-of-00002.safetensors"], {}),
        (["pytorch_model.bin", "optimizer.bin", "training_args.bin"], {"model": "pytorch_model.bin"}),
        (["model.fp16.safetensors.index.json", "model.safetensors.index.json"],
            {"model": "model.safetensors.index.json"}),
        (["last.ckpt", "optimizer.pt"], {"model": "last.ckpt"}),
        (["epoch1.pt", "epoch2.pt"], {}),
        (["model.pth", "optimizer.pth"], {"model": "model.pth"}),
        (["policy.optimizer.pth", "policy.pth", "pytorch_variables.pth"], {"model": "policy.pth"}),
        ([".model.safetensors"], {}),
    ],
)  # fmt: skip
def test_the_weights_of_a_folder_are_told_by_their_names(names: list[str], expected: dict[str, str]) -> None:
    """One is chosen where one is meant; where several could be, none is."""
    assert contents("nowhere", names).weights == expected


def test_one_file_alone_is_opened_as_itself(tmp_path: Path) -> None:
    """A configuration beside it does not make it a folder of parts."""
    safetensors.torch.save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert sniff(tmp_path) == Sniffed("folder of weights", file="model.safetensors")
    opened = open_checkpoint(tmp_path)
    assert (opened.kind, opened.path) == ("safetensors", str(tmp_path / "model.safetensors"))


def test_parts_without_weights_are_no_checkpoint(trained: dict[str, Any], tmp_path: Path) -> None:
    """An optimizer alone does not make a folder of weights; its file can be opened."""
    torch.save(trained["optimizer"], tmp_path / "optimizer.bin")
    with pytest.raises(CheckpointError, match=r"it is a folder; expected a checkpoint. .* Name the file in it"):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointMismatch, match="a torch zip without weights"):
        open_checkpoint(tmp_path / "optimizer.bin").weights()


def _page(path: Path) -> None:
    path.write_text("<html>Sign in</html>")


def _half(path: Path) -> None:
    torch.save(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-40])


def _index(path: Path) -> None:
    path.write_text(json.dumps({"weight_map": {"w": path.name}}))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("optimizer.bin", _page, r"Opening .*optimizer.bin: it is a web page; expected a checkpoint"),
        ("scheduler.bin", _half, r"Reading .*scheduler.bin: it is a zip archive with no table of contents"),
        ("trainer_state.json", _page, r"Reading .*trainer_state.json: it is no JSON"),
        ("model.safetensors.index.json", _index, r"Opening .*index.json: it is a safetensors index; expected a check"),
    ],
)
def test_a_part_that_is_damaged_is_named(
    name: str, write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    """The message names the file, also of an index that leads in a circle."""
    safetensors.torch.save_file(WEIGHTS, tmp_path / "model.safetensors")
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path)


def test_a_damaged_index_is_not_passed_over(tmp_path: Path) -> None:
    """Even where a whole file lies beside it: which of the two is meant is not ours to guess."""
    (tmp_path / "model.safetensors.index.json").write_text("{")
    (tmp_path / "optimizer.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"index\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(CheckpointCorrupt, match="it has no `weight_map`"):
        open_checkpoint(tmp_path)


def test_a_folder_says_what_its_one_file_is_about(tmp_path: Path) -> None:
    """config.json as it is, nothing where there is none; what is no JSON is named."""
    assert about(str(tmp_path)) == {}
    (tmp_path / "config.json").write_text('{"label_names": ["ant", "bee"]}')
    assert about(str(tmp_path)) == {"config": {"label_names": ["ant", "bee"]}}
    assert class_names(about(str(tmp_path))) == ["ant", "bee"]
    assert class_names({"config": {"pretrained_cfg": {"label_names": ["ant"]}}}) == ["ant"]
    assert class_names({"config": {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}}) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointCorrupt, match=r"config\.json: it is no JSON"):
        about(str(tmp_path))


def test_what_lies_beside_one_file_is_known(tmp_path: Path) -> None:
    """The file opens as itself, and the configuration beside it says the classes."""
    save_file({"fc.weight": torch.ones(1, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "cat"}}')
    opened = open_checkpoint(tmp_path)
    assert opened.kind == "safetensors"
    assert opened.metadata["config"]["id2label"] == {"0": "cat"}


def _shards(folder: Path, total: int = 2) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(1, total + 1):
        save_file({f"layer{number}.weight": torch.full((2,), 1.0 * number)},
                  folder / f"model-{number:05d}-of-{total:05d}.safetensors")  # fmt: skip


def test_shards_that_have_lost_their_index_are_one_model(tmp_path: Path) -> None:
    """Their own names say how many there are."""
    _shards(tmp_path)
    opened = open_checkpoint(tmp_path)
    assert {n: t.tolist() for n, t in opened.weights().items()} == {"layer1.weight": [1, 1], "layer2.weight": [2, 2]}


def test_shards_without_index_fail_when_one_is_missing_or_says_the_same(tmp_path: Path) -> None:
    """Nothing half is opened, and no value is chosen by order."""
    _shards(tmp_path, 3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointCorrupt, match=r"2 of 3 shards and no index; missing: model-00002-of-00003"):
        open_checkpoint(tmp_path)
    save_file({"layer1.weight": torch.zeros(2)}, tmp_path / "model-00002-of-00003.safetensors")
    with pytest.raises(CheckpointError, match="some that other shards hold too"):
        open_checkpoint(tmp_path)
    save_file({"x": torch.zeros(2)}, tmp_path / "other-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="of another set of shards"):
        open_checkpoint(tmp_path)


def test_a_lone_shard_says_so(tmp_path: Path) -> None:
    """It opens, with a word on where the others are."""
    _shards(tmp_path)
    first = tmp_path / "model-00001-of-00002.safetensors"
    assert open_checkpoint(first).notes == ("one of 2 shards; open the folder for all of them",)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "open model.safetensors.index.json beside it" in open_checkpoint(first).notes[0]
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors not beside it" in open_checkpoint(first).notes[0]


def test_a_pipeline_of_diffusers_is_a_role_for_each_model(tmp_path: Path) -> None:
    """Folders that its table does not name, and those without weights, are none; one precision is the model's."""
    table = {"_class_name": "P", "unet": ["d", "U"], "vae": ["d", "V"], "scheduler": ["d", "S"], "none": [None, None]}
    (tmp_path / "model_index.json").write_text(json.dumps(table))
    for name in ("unet", "vae", "scheduler", "other"):
        (tmp_path / name).mkdir()
    for name, value in (("unet", 1.0), ("vae", 2.0), ("other", 3.0)):
        save_file({"w.weight": torch.full((2,), value)}, tmp_path / name / "diffusion_pytorch_model.safetensors")
    save_file({"w.weight": torch.zeros(2).half()}, tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors")
    (tmp_path / "scheduler/scheduler_config.json").write_text("{}")
    opened = open_checkpoint(tmp_path)
    assert opened.made_by == "diffusers"
    assert {role: opened.weights(role)["w.weight"].tolist() for role in opened.roles} == {"unet": [1, 1], "vae": [2, 2]}


def _deepspeed(folder: Path, *names: str, stage: int = 1) -> dict[str, Any]:
    folder.mkdir(parents=True)
    module = {"fc.weight": torch.ones(2, 2) if stage < 3 else torch.empty(0)}
    state = {"module": module, "optimizer": None, "param_shapes": [{"fc.weight": torch.Size([2, 2])}],
             "ds_config": {}, "ds_version": "0.19.8", "mp_world_size": 1, "global_steps": 7}  # fmt: skip
    for name in names:
        torch.save(state if "optim" not in name else {"optimizer_state_dict": {}}, folder / name)
    return state


def test_deepspeed_opens_where_one_file_has_all_weights(tmp_path: Path) -> None:
    """`latest` names the folder; what is in pieces is told."""
    names = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    _deepspeed(tmp_path / "global_step7", *names)
    (tmp_path / "latest").write_text("global_step7\n")
    opened = open_checkpoint(tmp_path)
    assert (opened.made_by, opened.metadata["global_steps"]) == ("DeepSpeed 0.19.8", 7)
    assert opened.weights()["fc.weight"].tolist() == [[1, 1], [1, 1]]
    assert opened.notes == ("the optimizer's state lies in pieces beside it (zero_pp_rank_…) and is not read",)


def test_deepspeed_in_pieces_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """ZeRO's third stage keeps empty parameters in the place of weights; model parallel pieces are not joined."""
    name = "zero_pp_rank_0_mp_rank_00_model_states.pt"
    _deepspeed(tmp_path / "three", name, stage=3)
    for path in (tmp_path / "three", tmp_path / "three" / name):
        with pytest.raises(CheckpointError, match=r"DeepSpeed.*zero_to_fp32.py"):
            open_checkpoint(path)
    _deepspeed(tmp_path / "two", "mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt")
    with pytest.raises(CheckpointError, match="in pieces that several processes wrote"):
        open_checkpoint(tmp_path / "two")
