"""A second open of an object, all of which was read: how long until the first byte of it, in a process of its own.

echo '{"url": "ramcache::s3://bench/x", "options": {}}' | python -m benchmarks.second_open
"""

from __future__ import annotations

import json
import statistics
import sys
import time

_TIMES = 9


def main() -> None:
    """Print the median of some opens in seconds, and when (as `time.time()`) the first of them began."""
    import fsspec

    request = json.load(sys.stdin)
    with fsspec.open(request["url"], **request["options"]) as file:
        while file.read(16 << 20):
            pass
    time.sleep(0.05)  # the server's log has what came before
    begun, seconds = time.time(), []
    for _ in range(_TIMES):
        started = time.perf_counter()
        with fsspec.open(request["url"], **request["options"]) as file:
            file.read(1)
            seconds.append(time.perf_counter() - started)
    print(json.dumps({"begun": begun, "seconds": statistics.median(seconds)}))


if __name__ == "__main__":
    main()
