"""What the benchmarks measure with: the server, the control group, and what is made of the figures."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import control_group
from benchmarks.measure import Run
from benchmarks.servers import SLOW_DELAY_S, Nginx, ServerUnavailable
from benchmarks.transfer import judge, ratio

_MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Nginx]:
    try:
        nginx = Nginx(workers=1)
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with nginx:
        nginx.put_random("a.bin", 3 * _MIB)
        nginx.put_random("b.bin", 1000)
        for number in range(1500):
            nginx.put_random(f"many/{number:04}.bin", 10)
        nginx.start()
        yield nginx


def get(server: Nginx, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(
        server.endpoint + path, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {}


def test_the_server_gives_the_object_and_the_tag_that_it_lists(server: Nginx) -> None:
    entry = server.objects["a.bin"]
    status, body, headers = get(server, "/bench/a.bin")
    assert status == 200
    assert hashlib.sha256(body).hexdigest() == entry.sha256
    assert headers["etag"] == entry.etag
    _, listing, _ = get(server, "/bench?list-type=2&prefix=a.bin")
    assert entry.etag.replace('"', "&quot;").encode() in listing or entry.etag.encode() in listing
    assert b"b.bin" not in listing
    _, everything, _ = get(server, "/bench/?list-type=2&prefix=")
    assert b"a.bin" in everything and b"b.bin" in everything


def test_the_server_lists_a_prefix_in_pages(server: Nginx) -> None:
    _, first, _ = get(server, "/bench?list-type=2&prefix=many%2F")
    assert first.count(b"<Contents>") == 1000 and b"<IsTruncated>true" in first
    (token,) = re.findall(rb"<NextContinuationToken>(.*)</NextContinuationToken>", first)
    _, second, _ = get(server, f"/bench?continuation-token={token.decode()}&list-type=2&prefix=many/")
    keys = re.findall(rb"<Key>([^<]+)</Key>", first + second)
    assert keys == sorted(b"many/%04d.bin" % number for number in range(1500)) and b"<IsTruncated>false" in second


def test_the_server_speaks_tls_and_is_slow_where_that_is_wanted(server: Nginx) -> None:
    _, whole, _ = get(server, "/bench/a.bin")
    if server.tls_endpoint is not None:
        context = ssl.create_default_context(cafile=str(server.ca_bundle))
        with urllib.request.urlopen(server.tls_endpoint + "/bench/a.bin", context=context) as answer:
            assert answer.read() == whole
    if server.slow_endpoint is not None:
        began = time.monotonic()
        request = urllib.request.Request(server.slow_endpoint + "/bench/a.bin", headers={"Range": "bytes=5-1000004"})
        with urllib.request.urlopen(request) as answer:
            assert (answer.status, answer.read()) == (206, whole[5:1000005])
        assert time.monotonic() - began >= SLOW_DELAY_S


def test_the_server_honours_ranges_and_pins(server: Nginx) -> None:
    entry = server.objects["a.bin"]
    _, whole, _ = get(server, "/bench/a.bin")
    status, part, _ = get(server, "/bench/a.bin", Range="bytes=100-199", If_Match=entry.etag)
    assert (status, part) == (206, whole[100:200])
    status, _, _ = get(server, "/bench/a.bin", If_Match='"another"')
    assert status == 412


def test_the_first_request_is_found_in_the_log(server: Nginx) -> None:
    server.forget_requests()
    before = time.time()
    get(server, "/bench/b.bin")
    between = time.time()
    get(server, "/bench/a.bin")
    assert before - 0.002 <= server.first_request() <= between + 0.002  # the log is in milliseconds


def test_a_control_group_counts_the_memory_and_time_of_orphans(server: Nginx) -> None:
    # A process that leaves another behind, in a session of its own, which fills a memfd and computes.
    code = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        fd = os.memfd_create("x")
        for _ in range(64):
            os.write(fd, bytes(1 << 20))
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    os._exit(0)
"""
    done = control_group.run([sys.executable, "-c", code], env=dict(os.environ), timeout_s=60, keep=server.pids[:1])
    assert done.returncode == 0
    assert 64 * _MIB <= done.usage.peak_bytes < 164 * _MIB
    assert 0.3 <= done.usage.cpu_seconds < 3
    assert server.pids, "the server was not waited for"


def test_ratios_are_medians_of_the_rounds_ratios() -> None:
    base = Run("diskless", "nothing", 0.1, 1.0, 1.0, 1.0, 0.1, 110 * _MIB, "")
    runs = []
    for ours, theirs in ((1.0, 3.0), (2.0, 10.0), (1.0, 4.0)):
        runs += [
            replace(base, wall_s=ours),
            replace(base, contender="download_fileobj", wall_s=theirs),
            replace(base, contender="bare loop", wall_s=ours * 0.9),
            replace(base, scenario="python", wall_s=ours * 2),
            replace(base, scenario="import", together_s=5.0, cpu_s=1.0),
        ]
    assert ratio(runs, "download_fileobj", "diskless") == 4.0

    verdicts = {verdict.what: verdict for verdict in judge(runs, 100 * _MIB, import_alone_s=4.0)}

    assert verdicts["one: time of the fastest peer (download_fileobj) over diskless's"].met
    assert not verdicts["one: speed relative to the bare loop"].met
    assert verdicts["one: MiB of memory above the object's size"].value == 10
    assert not verdicts["speed beside pure Python relative to idle"].met
    together = next(verdict for what, verdict in verdicts.items() if what.startswith("import and transfer"))
    assert together.met and together.value == pytest.approx(1.25)
