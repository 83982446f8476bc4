from __future__ import annotations

import inspect

import pytest

from holdfast import errors
from holdfast.errors import first_of

EXIT_CODES = {
    errors.HoldfastError: 1,
    errors.ConfigError: 2,
    errors.DataError: 3,
    errors.RunError: 1,
    errors.CheckpointCorrupt: 1,
}


def test_every_error_is_of_one_family() -> None:
    """Whoever catches HoldfastError catches all that we raise on purpose."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__]
    assert len(classes) >= 8
    assert all(issubclass(c, errors.HoldfastError) for c in classes)


def test_errors_of_checkpoints_are_checkpoint_errors() -> None:
    """Damage, misfit and unsupported values are three kinds of one error."""
    for kind in (errors.CheckpointCorrupt, errors.CheckpointMismatch, errors.UnsupportedState):
        assert issubclass(kind, errors.CheckpointError)
    assert not issubclass(errors.CheckpointMismatch, errors.CheckpointCorrupt)


@pytest.mark.parametrize(("kind", "code"), EXIT_CODES.items())
def test_errors_end_a_command_with_the_promised_code(kind: type[errors.HoldfastError], code: int) -> None:
    """1 for a failure, 2 for usage, 3 for data."""
    assert kind("why").exit_code == code


def test_first_of_lists_a_few_problems_and_counts_the_rest() -> None:
    """Ten are shown, one a line; the others are counted."""
    assert first_of(["a", "b"]) == "  a\n  b"
    assert first_of([str(n) for n in range(10)]).count("\n") == 9
    assert first_of([str(n) for n in range(12)]).endswith("  9\n  … and 2 more")
    assert first_of(["a", "b", "c"], limit=1) == "  a\n  … and 2 more"
