from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from holdfast.config import FIELDS, Config, load_config, nearest, parse_duration, parse_save_every
from holdfast.errors import ConfigError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.row("T5")
def test_defaults_file_environment_flags_and_set_in_this_order(tmp_path: Path) -> None:
    """Each source overrules those before it, and only where it says something."""
    file = _file(tmp_path, "epochs: 2\nbatch_size: 2\nkeep: 2\nseed: 2\n")
    environ = {"HOLDFAST_BATCH_SIZE": "3", "HOLDFAST_KEEP": "3", "HOLDFAST_SEED": "3"}
    flags = {"keep": "4", "seed": 4, "lr": None}
    config = load_config(file, environ, flags, ["seed=5"])
    assert (config.momentum, config.epochs, config.batch_size, config.keep, config.seed) == (0.9, 2, 3, "4", 5)
    assert config.lr is None


@pytest.mark.row("T5")
def test_nothing_asked_gives_the_defaults() -> None:
    """Without any source the settings are Config's own."""
    assert load_config(environ={}) == Config()


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLDFAST_EPOCHS in the real environment counts."""
    monkeypatch.setenv("HOLDFAST_EPOCHS", "17")
    assert load_config().epochs == 17


def test_other_environment_variables_are_left_alone() -> None:
    """Names of ours that are no settings, and settings without our prefix, are not read."""
    assert load_config(environ={"HOLDFAST_TEST_DATA": "/x", "EPOCHS": "3"}) == Config()


def test_an_unknown_variable_of_ours_fails_with_the_nearest_one() -> None:
    """HOLDFAST_EPOCH is refused as a misspelt key in a file is."""
    with pytest.raises(ConfigError, match=r"'epoch' in the environment \(HOLDFAST_EPOCH\)\. Did you mean 'epochs'"):
        load_config(environ={"HOLDFAST_EPOCH": "3"})


@pytest.mark.parametrize(
    ("source", "place"),
    [("file", r"in .*recipe\.yaml"), ("flags", "on the command line"), ("set", "in --set epoch=3")],
)
def test_an_unknown_key_fails_with_the_nearest_one(tmp_path: Path, source: str, place: str) -> None:
    """A misspelt setting is refused with its place and the one that was meant."""
    arguments: dict[str, Any] = {
        "file": {"file": _file(tmp_path, "epoch: 3")},
        "flags": {"flags": {"epoch": 3}},
        "set": {"assignments": ["epoch=3"]},
    }[source]
    with pytest.raises(ConfigError, match=rf"Unknown setting 'epoch' {place}\. Did you mean 'epochs'\?"):
        load_config(environ={}, **arguments)


def test_an_unknown_key_that_is_near_to_nothing_fails_without_a_guess() -> None:
    """No nonsense is offered."""
    with pytest.raises(ConfigError, match=r"Unknown setting 'qqq' in --set qqq=1\.$"):
        load_config(environ={}, assignments=["qqq=1"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epochs=many", "epochs is 'many' in --set epochs=many; expected a whole number"),
        ("epochs=2.5", "epochs is 2.5 .*; expected a whole number"),
        ("epochs=inf", "epochs is 'inf' .*; expected a whole number"),
        ("epochs=true", "epochs is True .*; expected a whole number"),
        ("seed=99999999999999999999", "seed is 99999999999999999999 .*; expected a whole number"),
        ("lr=fast", "lr is 'fast' .*; expected a number"),
        ("lr=[1, 2]", r"lr is \[1, 2\] .*; expected a number"),
        ("deterministic=perhaps", "deterministic is 'perhaps' .*; expected true or false"),
        ("model=[a, b]", r"model is \['a', 'b'\] .*; expected text"),
        ("classes=5", "classes is 5 .*; expected a list"),
        ("classes={a: 1}", r"classes is \{'a': 1\} .*; expected a list"),
        ("model_args=5", "model_args is 5 .*; expected a table of names and values"),
        ("lr_scales.fc=high", r"lr_scales is \{'fc': 'high'\} .*; expected a table of names and values"),
        ("seed=", "seed is None .*; expected a whole number"),
        ("schedule=cosin", "schedule is 'cosin' .*; expected one of cosine, step, constant. Did you mean 'cosine'?"),
        ("lr", "--set lr: expected KEY=VALUE, such as --set lr=0.1"),
    ],
)
def test_a_value_of_the_wrong_kind_fails(assignment: str, message: str) -> None:
    """The refusal names the setting, the value, the place, and what was expected."""
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_config(environ={}, assignments=[assignment])


def test_a_wrong_value_in_the_environment_fails_with_the_variables_name() -> None:
    """The place of a value from the environment is the variable's name; a broken table is a wrong value too."""
    with pytest.raises(ConfigError, match=r"lr is 'x' in the environment \(HOLDFAST_LR\); expected a number"):
        load_config(environ={"HOLDFAST_LR": "x"})
    with pytest.raises(ConfigError, match=r"in the environment \(HOLDFAST_MODEL_ARGS\); expected a table"):
        load_config(environ={"HOLDFAST_MODEL_ARGS": "{width: "})


@pytest.mark.row("T5")
@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("2.5e2", 250.0), ("-1e0", -1.0), ("3", 3.0)]
)
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    """YAML 1.1 takes 1e-3 for text; every source of ours takes it for a number, in tables too."""
    by_file = load_config(
        _file(tmp_path, f"lr: {text}\noptimizer_args:\n  eps: {text}\nlr_scales:\n  fc: {text}\n"), {}
    )
    by_set = load_config(None, {}, None, [f"lr={text}", f"optimizer_args.eps={text}", f"lr_scales.fc={text}"])
    for config in (by_file, by_set):
        assert (config.lr, config.optimizer_args, config.lr_scales) == (value, {"eps": value}, {"fc": value})
    assert load_config(None, {"HOLDFAST_LR": text}).lr == load_config(None, {}, {"lr": text}).lr == value


def test_text_that_looks_a_little_like_a_number_stays_text(tmp_path: Path) -> None:
    """Names such as `e5` or `resnet1e` are no numbers."""
    config = load_config(_file(tmp_path, "model: e5\nmodel_args: {stem: 1ex, act: gelu}\n"), {})
    assert (config.model, config.model_args) == ("e5", {"stem": "1ex", "act": "gelu"})


@pytest.mark.parametrize("text", ["9007199254740993", "+9007199254740993"])
def test_large_whole_numbers_keep_every_digit(text: str) -> None:
    """A seed beyond 2**53 does not go through a float."""
    assert load_config(environ={}, flags={"seed": text}).seed == 9007199254740993


def test_whole_numbers_may_be_written_as_floats() -> None:
    """1e2 pictures are 100."""
    assert load_config(environ={}, assignments=["batch_size=1e2"]).batch_size == 100


@pytest.mark.row("T5")
def test_dotted_keys_set_entries_of_tables() -> None:
    """The first dot divides; further dots belong to the entry's name; entries add up over the sources."""
    config = load_config(
        environ={"HOLDFAST_MODEL_ARGS": "{dropout: 0.1, width: 8}"},
        assignments=["model_args.dropout=0.5", "model_args.name=x", "lr_scales.layer4.1=0.25", "model_args.deep=true"],
    )
    assert config.model_args == {"dropout": 0.5, "width": 8, "name": "x", "deep": True}
    assert config.lr_scales == {"layer4.1": 0.25}


def test_a_value_may_hold_an_equals_sign() -> None:
    """Only the first equals sign divides key from value."""
    assert load_config(environ={}, assignments=["data=a=b"]).data == "a=b"


@pytest.mark.parametrize("words", ["true True 1 yes on", "false False 0 no off"])
def test_truth_has_its_usual_words(words: str) -> None:
    """The usual words for yes and no are understood."""
    for word in words.split():
        assert load_config(environ={"HOLDFAST_DETERMINISTIC": word}).deterministic is words.startswith("true")


def test_lists_are_commas_on_the_command_line_and_lists_in_files(tmp_path: Path) -> None:
    """Both forms give the same list of texts."""
    by_flag = load_config(environ={}, flags={"classes": "cat, dog,7"})
    by_file = load_config(_file(tmp_path, "classes: [cat, dog, 7]"), {})
    assert by_flag.classes == by_file.classes == ["cat", "dog", "7"]


def test_keys_in_files_may_have_dashes(tmp_path: Path) -> None:
    """`batch-size` and `batch_size` are the same key."""
    assert load_config(_file(tmp_path, "batch-size: 5"), {}).batch_size == 5


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    """A file of comments is no error."""
    assert load_config(_file(tmp_path, "# nothing yet\n"), {}) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "found a list; expected lines of `key: value`"),
        ("a: [1", "Reading the settings in"),
        ("3", "int"),
    ],
)
def test_a_file_that_is_no_table_fails(tmp_path: Path, text: str, message: str) -> None:
    """The refusal names the file and what it found."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(_file(tmp_path, text), {})
    assert "recipe.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_fails(tmp_path: Path) -> None:
    """The refusal names the file."""
    with pytest.raises(ConfigError, match=r"Reading the settings in .*missing\.yaml"):
        load_config(tmp_path / "missing.yaml", {})


_EVERYTHING = Config(
    data="pictures of ümläuts/and spaces",
    out="runs/a: b",
    classes=["yes", "no", "1e3", "007", "null", "~", "a: b", "", "#", "Ü"],
    val_fraction=0.1,
    img_size=64,
    model="timm:vit",
    model_args={"dropout": 1e-5, "widths": [1, 2], "name": "on", "nothing": None, "flag": False},
    freeze=["stem", r"layer\d\..*"],
    epochs=3,
    lr=1e-5,
    weight_decay=1e-20,
    optimizer_args={"eps": 1e-8},
    lr_scales={"layer4.1": 0.1},
    seed=-(2**62) - 1,
    deterministic=False,
    tensorboard=True,
    trace_samples="trace.txt",
    target_mean=[k / 7 - 9 for k in range(136)],
    target_std=[1e-20, 5e300, 0.1],
    target_columns=["a, b", "[a]", "{a}", "a:", "- a", "? a", "!a", "a #b", "'", '"', "one\nother", "a long name" * 20],
)


@pytest.mark.row("T5")
@pytest.mark.parametrize("config", [Config(), _EVERYTHING], ids=["defaults", "everything"])
def test_what_to_yaml_writes_asks_for_just_this(tmp_path: Path, config: Config) -> None:
    """config.yaml read back is the same settings, to the last digit and the oddest class name."""
    assert load_config(_file(tmp_path, config.to_yaml()), {}) == config


def test_lists_stand_on_a_line() -> None:
    """The mean shape of 68 points takes a screen at most, and a list of classes one line."""
    lines = Config(target_mean=[k / 7 - 9 for k in range(136)], classes=["ant", "bee"]).to_yaml().splitlines()
    assert "classes: [ant, bee]" in lines
    assert len(lines) < len(FIELDS) + 30 and max(map(len, lines)) < 160


def test_the_recipe_is_what_decides_the_weights() -> None:
    """Places, machine and what is written down do not belong to it; everything else does."""
    others = set(FIELDS) - set(Config().recipe())
    assert others == {
        "data", "out", "split", "image_dir", "file_column", "label_column", "device", "workers", "save_every", "keep",
        "background_saves", "time_budget", "grace", "min_matched", "cache", "cache_dir", "cache_size",
        "log_every", "trace_samples", "tensorboard",
    }  # fmt: skip


def test_replace_changes_a_copy() -> None:
    """Settings are frozen: a change makes another Config."""
    config = Config()
    assert config.replace(lr=0.5).lr == 0.5 and config.lr is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0  # type: ignore[misc]


def test_every_setting_has_a_help_text_and_no_two_share_a_flag() -> None:
    """Each setting explains itself, and each flag belongs to one."""
    assert all(field.metadata["help"] for field in FIELDS.values())
    flags = [flag for field in FIELDS.values() for flag in field.metadata["flags"]]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500", (500, "steps")),
        ("1", (1, "steps")),
        ("3 steps", (3, "steps")),
        ("1step", (1, "steps")),
        ("10min", (10, "minutes")),
        ("0.5min", (0.5, "minutes")),
        ("30s", (0.5, "minutes")),
        ("90 sec", (1.5, "minutes")),
        ("1h", (60, "minutes")),
        ("2 d", (2880, "minutes")),
        ("1epoch", (1, "epochs")),
        ("2epochs", (2, "epochs")),
        (" 2 Epochs ", (2, "epochs")),
    ],
)
def test_parse_save_every(text: str, expected: tuple[float, str]) -> None:
    """Steps, times and epochs are told apart; a time may be a fraction, and is given in minutes."""
    assert parse_save_every(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "1.5",
        "0.5epoch",
        "epoch",
        "often",
        "0min",
        "0s",
        "10 weeks",
        "infsteps",
        "nan",
        "nanmin",
        "infmin",
    ],
)
def test_parse_save_every_fails(text: str) -> None:
    """What is none of the three is refused with an example of each."""
    with pytest.raises(
        ConfigError, match=r"expected a number of steps \(500\), a time \(30s, 10min, 1h\) or epochs \(1epoch\)"
    ):
        parse_save_every(text)


def test_nearest_offers_one_name_or_nothing() -> None:
    """A near name is offered as a question; a far one is not."""
    assert nearest("lerning_rate", ["learning_rate", "seed"]) == " Did you mean 'learning_rate'?"
    assert nearest("zzz", ["learning_rate", "seed"]) == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90min", 5400), ("8h", 28800), ("1.5 h", 5400), ("2d", 172800), ("1:30", 5400), ("1:30:05", 5405),
     ("1-02:00:00", 93600)],
)  # fmt: skip
def test_a_duration_is_read_as_people_and_slurm_write_it(text: str, seconds: float) -> None:
    """Numbers with a unit, and hours:minutes[:seconds] with days before a dash, are seconds."""
    assert parse_duration(text, "grace") == seconds


@pytest.mark.parametrize("text", ["", "8", "h", "0s", "-1h", "1:70", "1:2:3:4", "8 hours", "nan"])
def test_a_duration_that_says_nothing_fails(text: str) -> None:
    """What is no duration is refused, with the setting, the text, and what is expected."""
    with pytest.raises(ConfigError, match=r"time_budget is '.*'; expected a duration such as 45s, 90min, 8h or 1:30"):
        parse_duration(text, "time_budget")
