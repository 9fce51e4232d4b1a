"""Loads from a server that fails, of each kind one, as the benchmark runs them by the hundred."""

from __future__ import annotations

import pytest

from benchmarks import faults
from benchmarks.fault_plan import ENDINGS, HEALING, NAMELESS
from diskless import native_api as native


@pytest.mark.skipif(not native.available(), reason="needs the Tree")
def test_every_load_ends_as_it_has_to_and_leaves_nothing() -> None:
    said: list[str] = []
    report = faults.benchmark(loads=len(set(ENDINGS)), parts=25, seed=1, say=said.append)
    assert not any(load.wrong for load in report.loads) and not report.left_over, "\n".join(said)
    assert {load.ending for load in report.loads} >= {ending.name for ending in ENDINGS} - {NAMELESS.name}
    assert sum(load.requests for load in report.loads) >= 250
    assert len(set(report.injected) & set(HEALING)) >= 8


def test_what_is_not_as_it_has_to_be_is_found() -> None:
    """The judge itself: another error, other bytes, a file that is missing, an error that names no object."""
    whole, replaced = ENDINGS[6], ENDINGS[3]
    hashes = {"a": "1", "b": "2"}

    def wrong(ending, error, sha256):
        answer = {"error": error, "sha256": sha256, "left": []}
        return list(faults.differences(ending, "load/a", answer, hashes))

    assert wrong(whole, None, hashes) == []
    assert wrong(whole, None, {"a": "1", "b": "3"}) == ["other bytes in b"]
    assert wrong(whole, None, {"a": "1"}) == ["b cannot be read"]
    assert "and not TransferError: broken" in wrong(whole, ["TransferError", "broken"], {})[0]
    said = "s3://faulty/load/a was replaced while it was read (at byte 0)"
    assert wrong(replaced, ["ObjectChanged", said], {"b": "2"}) == []
    assert wrong(replaced, ["ObjectChanged", said], {"b": "3"}) == ["other bytes in b"]
    assert "was to come, and not None" in wrong(replaced, None, hashes)[0]
    assert "does not name load/a" in wrong(replaced, ["ObjectChanged", "it was replaced while it was read"], {})[0]
