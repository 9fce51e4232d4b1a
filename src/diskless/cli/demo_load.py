"""The demo's fresh process: prefetch, import, load, embed; tells its parent what happened in lines of JSON.

The end of its standard input means that the parent is gone.
"""

from __future__ import annotations

import _thread
import json
import os
import shutil
import sys
import threading
import time
from contextlib import closing
from typing import Any

import diskless
from diskless.cli import written_files
from diskless.errors import DisklessError

# How long a load may take to notice that it is not wanted any more.
_PATIENCE_S = 5.0
SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "A kitten is napping by the window in the sun.",
    "The central bank raised interest rates again.",
)


def main(url: str, storage_options: dict[str, object] | None, started: float, temporary: str | None) -> None:
    """Load the model at `url` and embed three sentences.

    This process was `started` then, as `time.time()`; `temporary` is the parent's, to be removed should that be killed.
    """
    written = written_files.watch_own()
    tell = _Teller()
    threading.Thread(target=_end_with_parent, args=(temporary,), daemon=True).start()
    try:
        _load(url, storage_options, tell)
        tell("files", written=written, accessed=written_files.accessed_since(started))
    except KeyboardInterrupt:
        sys.exit(130)
    except DisklessError as error:
        tell("error", message=str(error))
        sys.exit(1)
    except Exception as error:
        tell("error", message=f"{url} could not be used as a model: {type(error).__name__}: {error}")
        sys.exit(1)


def _load(url: str, storage_options: dict[str, object] | None, tell: _Teller) -> None:
    begun = time.monotonic()
    with closing(diskless.prefetch(url, storage_options=storage_options, progress=False)):
        import torch
        from transformers import AutoModel, AutoTokenizer

        imported = time.monotonic()
        with diskless.mount(url, storage_options=storage_options, progress=False) as path:
            stats = diskless.mounts()[-1].stats
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModel.from_pretrained(path).eval()
            with torch.inference_mode():
                first = _embed(model, tokenizer, SENTENCES[0])
                embedded = time.monotonic()
                vectors = torch.stack([first, *(_embed(model, tokenizer, text) for text in SENTENCES[1:])])
                similarities = (vectors @ vectors.T).tolist()
            tell(
                "embedded",
                path=path,
                backing=stats.backing,
                model=type(model).__name__,
                files=stats.files,
                size_bytes=stats.size_bytes,
                fetched_bytes=stats.fetched_bytes,
                transfer_s=stats.seconds,
                import_s=imported - begun,
                embedded=embedded,
                similarities=similarities,
            )


def _embed(model: Any, tokenizer: Any, text: str) -> Any:
    """Return the normalised mean of the last hidden states, as sentence-transformers does for this model.

    One sentence at a time needs no padding, for which not every tokenizer has a token.
    """
    tokens = tokenizer(text, return_tensors="pt")
    mean = model(**tokens).last_hidden_state[0].mean(dim=0)
    return mean / mean.norm()


def _end_with_parent(temporary: str | None) -> None:
    while os.read(0, 1):
        pass
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
    _thread.interrupt_main()
    time.sleep(_PATIENCE_S)
    os._exit(1)


class _Teller:
    """Writes what happened to the parent; whatever else is printed in this process goes to standard error."""

    def __init__(self) -> None:
        self._events = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def __call__(self, event: str, **content: object) -> None:
        print(json.dumps({"event": event, **content}), file=self._events, flush=True)
