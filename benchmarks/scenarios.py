"""What is transferred, from which server, beside what: the rows of the transfer benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders import CONTENDERS
from benchmarks.servers import SLOW_BYTES_PER_S, SLOW_DELAY_S, Nginx, S3Object

MIB = 1 << 20
# Beside other work only those are measured that users would choose between.
_BUSY = ("diskless", "download_fileobj", "awscrt", "Model Streamer", "bare loop")


@dataclass(frozen=True)
class Scenario:
    """One row. `objects` names a set of `put_objects`, `server` one of the endpoints of an `Nginx`."""

    name: str
    what: str
    objects: str = "one"
    server: str = "plain"
    beside: str = "nothing"
    contenders: tuple[str, ...] = tuple(CONTENDERS)

    def endpoint(self, server: Nginx) -> str | None:
        """Return where the objects are; None where such a server cannot be had here."""
        return {"plain": server.endpoint, "tls": server.tls_endpoint, "slow": server.slow_endpoint}[self.server]


SCENARIOS = (
    Scenario("one", "one object, plain HTTP"),
    Scenario("tls", "one object, TLS", server="tls"),
    Scenario("several", "20 objects", objects="several"),
    Scenario("small", "many objects of 64 KiB", objects="small"),
    Scenario(
        "slow",
        f"one object, {SLOW_BYTES_PER_S / 1e6:.0f} MB/s a connection, answers {SLOW_DELAY_S * 1000:.0f} ms late",
        server="slow",
    ),
    Scenario("python", "one object while the main thread computes in Python", beside="python", contenders=_BUSY),
    Scenario("import", "one object while it imports torch and transformers", beside="import", contenders=_BUSY),
)


def put_objects(server: Nginx, size_bytes: int) -> dict[str, list[S3Object]]:
    """Store what the scenarios transfer: one of `size_bytes`, 20 of a twentieth, and 2,000 of 64 KiB for each 2 GiB."""
    count = max(20, 2000 * size_bytes // (2048 * MIB))
    return {
        "one": [server.put_random("weights.bin", size_bytes)],
        "several": [server.put_random(f"several/{n:02}.bin", size_bytes // 20) for n in range(20)],
        "small": [server.put_random(f"small/{n:04}.bin", 64 << 10) for n in range(count)],
    }
