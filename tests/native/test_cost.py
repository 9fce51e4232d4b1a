"""What an open Mount costs the calls that are not ours (benchmarks/interposer.py counts it)."""

from __future__ import annotations

import pytest

from benchmarks import interposer


@pytest.mark.timeout(300)  # of valgrind on a busy machine
def test_an_ordinary_call_costs_at_most_a_hundred_instructions_more() -> None:
    if (reason := interposer.missing()) is not None:
        pytest.skip(reason)
    report = interposer.benchmark(say=print)
    ordinary = {key: cost for key, cost in report.extra.items() if key[1] in interposer.HELD and key[0] != "dlsym"}
    assert len(ordinary) > 60
    assert {key: cost for key, cost in ordinary.items() if cost > 100} == {}
    assert report.extra["read", ""] == 0
    assert report.plain["stat", "absolute"] > 0
    # With a shadow open elsewhere, a path that shares no first component with it is not walked: the figures below
    # beside_shadow stay near those above, where a walk costs thousands.
    walked = {key: cost for key, cost in report.beside_shadow.items() if key[1] == "absolute" and cost > 200}
    assert walked == {}
    assert report.near_shadow["stat", "absolute"] > 1000
