"""Which keys become which paths: the disk is the oracle, and no odd key hides the others."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diskless.sources import Object
from diskless.sources.paths import place, refusal


def _entry(key: str, size_bytes: int = 1) -> Object:
    return Object(key, key, size_bytes, '"1"', None, 0)


def _placed(*keys: str) -> list[str]:
    return [entry.path for entry in place(map(_entry, keys))[0]]


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("a//b", "an empty part"),
        ("/x", "an empty part"),
        ("x/", "an empty part"),
        ("", "an empty part"),
        ("../x", "'.' or '..'"),
        ("a/../../x", "'.' or '..'"),
        ("..", "'.' or '..'"),
        ("./x", "'.' or '..'"),
        ("a/.", "'.' or '..'"),
        ("n" * 256, "longer than 255 bytes"),
        ("d/" + "n" * 300 + "/x", "longer than 255 bytes"),
        ("\u00e9" * 128, "longer than 255 bytes"),
        ("/".join(["d" * 200] * 20), "longer than 4000 bytes"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        ("a\x1bb", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\udcffb", "not valid UTF-8"),
        ("a\ud800b", "not valid UTF-8"),
    ],
)
def test_a_key_that_cannot_be_a_file_is_refused_with_the_reason(key, why):
    reason = refusal(key)
    assert reason is not None and why in reason
    # One odd key never hides the others.
    placed, refused = place([_entry("good"), _entry(key), _entry("d2/good")])
    assert [entry.path for entry in placed] == ["good", "d2/good"]
    assert refused == [(key, reason)]


@pytest.mark.parametrize(
    "key",
    [
        "%2e%2e",
        "%2e%2e/x",
        "a%2fb",
        "a b",
        "...",
        ".hidden",
        "..x",
        "~",
        "-rf",
        "back\\slash",
        "*?[",
        "n" * 255,
        "\u00e9" * 127,
        "e\u0301 and \u00e9",
        "\u202e",
        "\U0001f600",
    ],
)
def test_a_key_that_is_only_unusual_becomes_the_file_of_that_name(key, tmp_path):
    assert refusal(key) is None
    assert _placed(key) == [key]
    target = tmp_path / "root" / key
    target.parent.mkdir(parents=True)
    target.write_bytes(b"x")
    assert os.path.realpath(target) == f"{os.path.realpath(tmp_path)}/root/{key}"


def test_a_key_that_is_a_prefix_too_gives_way_to_what_is_below_it():
    placed, refused = place(map(_entry, ["a", "a/b", "a/b/c", "ab"]))
    assert [entry.path for entry in placed] == ["a/b/c", "ab"]
    assert refused == [
        ("a", "there are objects below a/ too, and a path cannot be both"),
        ("a/b", "there are objects below a/b/ too, and a path cannot be both"),
    ]


def test_a_key_stays_where_all_below_it_is_refused():
    placed, refused = place(map(_entry, ["a", "a//b"]))
    assert [entry.path for entry in placed] == ["a"] and [key for key, _ in refused] == ["a//b"]


def test_a_directory_marker_is_no_file_and_nothing_to_speak_of():
    placed, refused = place([_entry("d/", 0), _entry("d/x"), _entry("e/", 0)])
    assert [entry.path for entry in placed] == ["d/x"] and refused == []


def test_a_directory_marker_with_bytes_is_named():
    assert [key for key, _ in place([_entry("d/", 3)])[1]] == ["d/"]


_SEGMENTS = st.sampled_from(["a", "b", "c", ".", "..", "", "%2e%2e", "x\ny", "\udc80", "n" * 256, "\u00e9", "~", " "])
_KEYS = st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sets(_KEYS, max_size=12))
def test_whatever_is_placed_can_be_written_to_a_disk_all_at_once(tmp_path_factory, keys):
    root = tmp_path_factory.mktemp("keys")
    placed, refused = place([_entry(key) for key in sorted(keys)])
    for entry in placed:
        file = root / entry.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(entry.key.encode())
    there = {
        os.path.relpath(os.path.join(directory, name), root) for directory, _, names in os.walk(root) for name in names
    }
    assert there == {entry.path for entry in placed}
    # Nothing is lost without a word.
    assert {entry.key for entry in placed} | {key for key, _ in refused} == keys
    assert len(placed) + len(refused) == len(keys)
