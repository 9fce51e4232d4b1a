"""The process of one contender: set up, transfer once, print when what happened as JSON.

    echo '{"contender": …, "target": {…}, "beside": "nothing", "verify": true}' | python -m benchmarks.contender_process

`beside` says what the main thread does meanwhile: "nothing", "import" (torch and transformers) or "python" (counts).
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass

from benchmarks.contenders import CONTENDERS, Held, Target, Transfer

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class Times:
    """Points in time, as `time.time()`, which the server's log has too; and what the bytes of each object hash to."""

    ready: float
    begun: float
    transferred: float
    beside_done: float
    sha256: list[str] | None = None


def main() -> None:
    request = json.load(sys.stdin)
    transfer = CONTENDERS[request["contender"]].set_up(Target(**request["target"]))
    ready = time.time()
    times, held = run(transfer, request["beside"])
    result = asdict(Times(ready, *times))
    if request["verify"]:
        result["sha256"] = [sha256(one) for one in held]
    print(json.dumps(result), flush=True)


def run(transfer: Transfer, beside: str) -> tuple[tuple[float, float, float], list[Held]]:
    """Transfer in a thread while the main thread does what `beside` says (in the main thread if that is nothing)."""
    begun = time.time()
    if beside == "nothing":
        held = transfer()
        done = time.time()
        return (begun, done, done), held
    outcome: list[tuple[float, list[Held]]] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            result = transfer()
            outcome.append((time.time(), result))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    if beside == "import":
        import torch  # noqa: F401  # the import is the work beside which is measured
        import transformers  # noqa: F401  # so is this
    else:
        count = 0
        while thread.is_alive():
            for _ in range(20_000):
                count += 1
    beside_done = time.time()
    thread.join()
    if errors:
        raise errors[0]
    transferred, held = outcome[0]
    return (begun, transferred, beside_done), held


def sha256(held: Held) -> str:
    digest = hashlib.sha256()
    if isinstance(held, str):
        with open(held, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    else:
        digest.update(held)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
