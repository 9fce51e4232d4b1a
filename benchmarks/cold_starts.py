"""Ways to a model's first output in a new process, from S3 or from a warm disk: the contenders of `cold_start`.

    echo '{"start": …, "bucket": …, "prefix": "mirror/org/name", "names": […], "directory": …, "text": true}' |
        python -m benchmarks.cold_starts

Those that download do it in a thread beside the imports, as diskless does it in a process.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Loads a model, and a tokenizer if there is one to be loaded.
Loaded = tuple[Any, Any]
_TEXT = "RAM is fast, and a disk is not needed."


class Request:
    """What is to be loaded: the names of a model's files, where they are in a bucket, and a directory for copies."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.start: str = told["start"]
        self.bucket: str = told["bucket"]
        self.prefix: str = told["prefix"]
        self.names: list[str] = told["names"]
        self.directory: str = told["directory"]
        self.text: bool = told["text"]

    def objects(self) -> list[tuple[str, str]]:
        return [(name, f"{self.prefix}/{name}") for name in self.names]


def _beside_imports(work: Callable[[], Any]) -> Any:
    """Do something in a thread while the libraries are imported, and return what it gives."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    import torch  # noqa: F401  # what it takes to import is part of a cold start
    import transformers  # noqa: F401  # as above

    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _from_directory(request: Request, directory: str) -> Loaded:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory) if request.text else None
    return AutoModel.from_pretrained(directory), tokenizer


def warm_disk(request: Request) -> Loaded:
    """The directory is on a disk already, and in the page cache."""
    return _from_directory(request, request.directory)


def downloaded(request: Request) -> Loaded:
    """boto3 downloads the files in parallel, each in parallel parts, into a directory."""

    def download() -> None:
        from concurrent.futures import ThreadPoolExecutor

        import boto3
        from boto3.s3.transfer import TransferConfig

        client = boto3.client("s3")
        # The documentation's way to more throughput: more threads, and parts of a size to match.
        config = TransferConfig(max_concurrency=20, multipart_chunksize=16 << 20)
        with ThreadPoolExecutor(8) as pool:
            for name, _ in request.objects():
                os.makedirs(os.path.dirname(os.path.join(request.directory, name)), exist_ok=True)
            done = [
                pool.submit(
                    client.download_file, request.bucket, key, os.path.join(request.directory, name), Config=config
                )
                for name, key in request.objects()
            ]
            for each in done:
                each.result()

    _beside_imports(download)
    return _from_directory(request, request.directory)


def through_bytesio(request: Request) -> Loaded:
    """`download_fileobj` into `BytesIO`, then safetensors' `load` and `load_state_dict`."""

    def download() -> dict[str, bytes]:
        import boto3

        client = boto3.client("s3")
        found = {}
        for name, key in request.objects():
            if name in ("model.safetensors", "config.json", "tokenizer.json"):
                buffer = io.BytesIO()
                client.download_fileobj(request.bucket, key, buffer)
                found[name] = buffer.getvalue()
        return found

    files = _beside_imports(download)
    import safetensors.torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    model = BertModel(BertConfig.from_dict(json.loads(files["config.json"])))
    model.load_state_dict(safetensors.torch.load(files["model.safetensors"]), strict=False)
    if not request.text:
        return model, None
    return model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(files["tokenizer.json"].decode()))


def simplecache(request: Request) -> Loaded:
    """fsspec's simplecache over s3fs, with the names kept, into a directory."""

    def download() -> None:
        import fsspec

        for name, key in request.objects():
            directory = os.path.dirname(os.path.join(request.directory, name))
            options = {"cache_storage": directory, "same_names": True}
            fsspec.open_local(f"simplecache::s3://{request.bucket}/{key}", simplecache=options)

    _beside_imports(download)
    return _from_directory(request, request.directory)


def diskless_cache(request: Request) -> Loaded:
    """A mirror, whose repository is fetched beside the imports."""
    import diskless

    mirror, _, name = request.prefix.partition("/")
    diskless.cache(f"s3://{request.bucket}/{mirror}/", only="huggingface", prefetch=[name]).install()
    return _from_directory(request, name)


STARTS: dict[str, Callable[[Request], Loaded]] = {
    "diskless": diskless_cache,
    "warm disk": warm_disk,
    "disk, boto3": downloaded,
    "/dev/shm, boto3": downloaded,
    "BytesIO": through_bytesio,
    "simplecache": simplecache,
}


def main() -> None:
    request = Request(json.load(sys.stdin))
    model, tokenizer = STARTS[request.start](request)
    import torch

    model.eval()
    with torch.inference_mode():
        if tokenizer is not None:
            given = dict(tokenizer([_TEXT], return_tensors="pt"))
        else:
            given = {"input_ids": torch.arange(1, 17).reshape(1, 16)}
        output = model(**given).last_hidden_state.mean(dim=1)
    print(json.dumps({"done": time.time(), "value": float(output.double().abs().sum())}), flush=True)


if __name__ == "__main__":
    main()
