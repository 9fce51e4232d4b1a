"""The pattern most people use today beside the same in diskless: a state_dict from S3, until its tensors can be used.

python -m benchmarks today [--size-mib 1024]
"""

from __future__ import annotations

import pickle
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import contender_process
from benchmarks.contenders import CONTENDERS, Contender, Held, Target, Transfer
from benchmarks.measure import Run, measure
from benchmarks.servers import Nginx

MIB = 1 << 20
_TENSOR_BYTES = 64 * MIB


def bytesio_pickle(target: Target) -> Transfer:
    """`download_fileobj` into `BytesIO`, then `pickle.loads`."""
    import io

    import boto3
    import torch  # noqa: F401  # needed by the pickle; not what is compared

    client = boto3.client("s3")

    def transfer() -> list[Held]:
        buffer = io.BytesIO()
        client.download_fileobj(target.bucket, target.key, buffer)
        return _checked(pickle.loads(buffer.getvalue()))

    return transfer


def mount_pickle(target: Target) -> Transfer:
    """`diskless.mount`, then `pickle.load` of the open file."""
    import torch  # noqa: F401  # needed by the pickle; not what is compared

    import diskless

    def transfer() -> list[Held]:
        with diskless.mount(target.url, progress=False) as path, open(path, "rb") as file:
            state = pickle.load(file)
        return _checked(state)

    return transfer


def mount_torch_mmap(target: Target) -> Transfer:
    """`diskless.mount` of what `torch.save` wrote, then `torch.load(mmap=True)`: the tensors are the RAM file."""
    import torch

    import diskless

    def transfer() -> list[Held]:
        with diskless.mount(target.url, progress=False) as path:
            return _checked(torch.load(path, mmap=True, weights_only=True))

    return transfer


PATTERNS: dict[str, Contender] = {
    "BytesIO, pickle.loads": Contender(bytesio_pickle),
    "mount, pickle.load": Contender(mount_pickle),
    "mount, torch.load(mmap)": Contender(mount_torch_mmap),
}


@dataclass(frozen=True)
class Report:
    """All runs; each ends when the tensors have been read once."""

    size_bytes: int
    rounds: int
    runs: list[Run]


def benchmark(*, size_bytes: int, rounds: int, say: Callable[[str], None]) -> Report:
    """Run the patterns in turns, each in a process of its own."""
    import torch

    count = max(1, size_bytes // _TENSOR_BYTES)
    state = {f"layer.{n}": torch.randn(size_bytes // count // 4) for n in range(count)}
    with Nginx() as server, tempfile.TemporaryDirectory(dir=server.root) as staging:
        say(f"writing a state_dict of {size_bytes / MIB:.0f} MiB")
        pickled, saved = Path(staging) / "pickled", Path(staging) / "saved"
        with open(pickled, "wb") as file:
            pickle.dump(state, file)
        torch.save(state, saved)
        del state
        entries = {
            "BytesIO, pickle.loads": server.put_file("state.pkl", pickled),
            "mount, torch.load(mmap)": server.put_file("state.pt", saved),
        }
        entries["mount, pickle.load"] = entries["BytesIO, pickle.loads"]
        server.start()
        runs: list[Run] = []
        for number in range(rounds + 1):  # the first is the warm-up
            for pattern in PATTERNS:
                run = measure(server, [entries[pattern]], pattern, module="benchmarks.today")
                say(f"round {number}/{rounds} {pattern:24} {run.wall_s:6.2f} s  peak {run.peak_bytes / MIB:6.0f} MiB")
                runs += [run] if number else []
    return Report(size_bytes, rounds, runs)


def table(report: Report) -> str:
    """Return the medians as text."""
    lines = [
        f"state_dict of {report.size_bytes / MIB:.0f} MiB, from first request until every tensor was read once;"
        f" medians of {report.rounds} rounds; memory: {report.runs[0].memory_from}",
        f"{'':26}{'time':>9}{'peak':>12}{'peak/size':>11}{'CPU':>9}",
    ]
    for pattern in PATTERNS:
        runs = [run for run in report.runs if run.contender == pattern]
        peak = statistics.median(run.peak_bytes for run in runs)
        lines.append(
            f"{pattern:26}{statistics.median(run.wall_s for run in runs):7.2f} s{peak / MIB:8.0f} MiB"
            f"{peak / report.size_bytes:11.2f}{statistics.median(run.cpu_s for run in runs):7.2f} s"
        )
    return "\n".join(lines)


def _checked(state: object) -> list[Held]:
    """Read every tensor once (a mapping would otherwise look faster than it is) and say what they add up to."""
    assert isinstance(state, dict)
    return [repr([float(tensor.sum()) for tensor in state.values()]).encode()]


if __name__ == "__main__":
    CONTENDERS.update(PATTERNS)
    contender_process.main()
