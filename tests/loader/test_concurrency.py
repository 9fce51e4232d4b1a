"""How many connections a transfer uses."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from diskless.loader import concurrency
from diskless.loader.concurrency import FIRST, MOST, Concurrency
from diskless.loader.transfer import ATTEMPTS
from tests.loader.fault_server import Fault, FaultServer, Get
from tests.loader.fetching import fetch

KIB, MIB = 1 << 10, 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now, self.cpu = 100.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.cpu


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(concurrency, "time", made)
    return made


def run(clock: Clock, climbs: Concurrency, rate: Callable[[int], float], seconds: float, cpu: float = 0.1) -> int:
    """Let time pass, with so many bytes a second at so many connections, and `cpu` of a processor in use."""
    done = getattr(climbs, "done", 0.0)
    for _ in range(int(seconds / 0.1)):
        clock.now += 0.1
        clock.cpu += 0.1 * cpu * climbs._cores
        done += 0.1 * rate(climbs.connections)
        climbs.measure(int(done), waiting=1000)
    climbs.done = done  # type: ignore[attr-defined]
    return climbs.connections


def test_more_as_long_as_each_brings_its_share(clock: Clock) -> None:
    assert run(clock, Concurrency(FIRST, MOST), lambda n: 90e6 * n, 3) == MOST


def test_no_more_than_the_network_needs(clock: Clock) -> None:
    climbs = Concurrency(FIRST, MOST)
    assert run(clock, climbs, lambda n: min(90e6 * n, 1.1e9), 3) == 12, "12 fill it, and 18 bring nothing"
    assert run(clock, climbs, lambda n: min(90e6 * n, 2.5e9), 8) > 18, "some time it is tried again"


def test_none_where_the_processors_are_busy(clock: Clock) -> None:
    assert run(clock, Concurrency(FIRST, MOST), lambda n: 90e6 * n, 3, cpu=0.8) == FIRST


def test_half_of_them_when_the_store_asks_for_less(clock: Clock) -> None:
    climbs = Concurrency(FIRST, MOST)
    run(clock, climbs, lambda n: 90e6 * n, 3)
    for _ in range(MOST):
        climbs.slow_down()
    assert climbs.connections == MOST // 2, "that were all answers to what was under way"
    for _ in range(10):
        clock.now += 1.1
        climbs.slow_down()
    assert climbs.connections == 1
    assert run(clock, climbs, lambda n: 90e6 * n, 4) == 1
    assert run(clock, climbs, lambda n: 90e6 * n, 5) > FIRST


def test_not_more_than_there_are_parts(clock: Clock) -> None:
    climbs = Concurrency(FIRST, MOST)
    for step in range(30):
        clock.now += 0.1
        climbs.measure(step * MIB, waiting=3)
    assert climbs.connections == FIRST


def test_a_store_that_is_slow_for_each_connection_gets_more_of_them(in_threads: None) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def plan(get: Get) -> Fault:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return Fault()

    objects = {f"{number:04}": bytes(KIB) for number in range(400)}
    with FaultServer(objects, plan=plan) as server:
        contents, _ = fetch(server)
    assert contents == objects
    assert FIRST < most[0] <= MOST


def test_a_store_that_asks_for_less_gets_fewer(in_threads: None) -> None:
    lock, now, late, refused = threading.Lock(), [0], [], Counter()

    def plan(get: Get) -> Fault:
        with lock:
            now[0] += 1
            refuses = len(late) < 20 and refused[get.key] < ATTEMPTS - 1  # one more would be the end
            refused[get.key] += refuses
            late.append(now[0] if len(late) > 100 else 0)
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return Fault(status=503) if refuses else Fault()

    objects = {f"{number:04}": bytes(KIB) for number in range(200)}
    with FaultServer(objects, plan=plan) as server:
        contents, _ = fetch(server)
    assert contents == objects
    assert refused.total() >= FIRST and max(late) <= FIRST // 2
