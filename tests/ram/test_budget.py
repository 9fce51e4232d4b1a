"""The Budget refuses before anything is taken, and says what limits it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diskless.errors import BudgetExceeded, InvalidOption
from diskless.ram import budget
from diskless.ram.budget import Limit, check, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4GiB", 4 << 30),
        ("500 MB", 500_000_000),
        ("1.5g", 1_500_000_000),
        ("10", 10),
        (7, 7),
        (None, None),
        ("2Ki", 2048),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("size", ["", "many", "-4GiB", "4 GiB please", 0, -1, "0", True, 1.5, b"4GiB"])
def test_a_size_that_makes_no_sense_is_refused(size):
    with pytest.raises(InvalidOption, match="budget"):
        parse_size(size)


def test_what_fits_is_accepted():
    check(100, 0, 0, [Limit(100, 200, "a group")], 100)


def test_the_error_says_need_free_and_limit():
    with pytest.raises(BudgetExceeded) as caught:
        check(3 << 30, 1 << 30, 0, [Limit(8 << 30, 8 << 30, "the machine"), Limit(2 << 30, 4 << 30, "a group")], None)
    message = str(caught.value)
    assert isinstance(caught.value, MemoryError)
    for part in ("3.0 GiB are needed", "2.0 GiB are free", "a group (4.0 GiB", "holds 1.0 GiB", "Nothing was fetched"):
        assert part in message


def test_the_budget_of_a_caller_counts_what_is_held():
    with pytest.raises(BudgetExceeded, match="budget="):
        check(50, 60, 0, [], 100)
    check(40, 60, 0, [], 100)


def test_bytes_promised_but_not_written_are_not_given_twice():
    limits = [Limit(100, 100, "a group")]
    with pytest.raises(BudgetExceeded, match="a group"):
        check(60, 50, 50, limits, None)
    # For the caller's own budget they are part of what is held, and count once.
    check(50, 50, 50, [], 100)


def test_this_machine_tells_its_memory():
    names = [limit.name for limit in budget.memory_limits()]
    assert "the machine's available memory" in names


def _group(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_both_versions_are_read_up_to_their_root(tmp_path, monkeypatch, version):
    total, used = (
        ("memory__max", "memory__current") if version == 2 else ("memory__limit_in_bytes", "memory__usage_in_bytes")
    )
    outer = _group(tmp_path / "a", **{total: "1000\n", used: "900\n", "memory__stat": "inactive_file 50\n"})
    _group(outer / "b", **{total: "max\n" if version == 2 else str((1 << 63) - 4096), used: "10\n"})
    monkeypatch.setattr(budget, "_control_groups", lambda: [(outer / "b", version), (outer, version)])
    limits = [limit for limit in budget.memory_limits() if "control group" in limit.name]
    assert [(limit.free_bytes, limit.total_bytes) for limit in limits] == [(150, 1000)]


@pytest.mark.parametrize(
    ("shown", "path", "expected"),
    [("/", "/a/b", ["a/b", "a", "."]), ("/docker/x", "/docker/x", ["."]), ("/docker/x", "/elsewhere", ["."])],
)
def test_a_container_sees_its_group_at_the_root_of_the_mount(tmp_path, shown, path, expected):
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = budget._ancestors(shown, str(tmp_path), path)
    assert [os.path.relpath(directory, tmp_path) for directory in found] == expected


def test_sizes_are_shown_in_binary_units():
    assert [format_size(size) for size in (12, 2048, 3 << 20, 5 << 30)] == ["12 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]
