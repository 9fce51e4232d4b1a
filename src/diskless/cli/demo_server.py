"""The demo's S3: moto's server on a free loopback port, in a process that lives as long as its standard input.

It prints one line of JSON, {"port": …} or {"error": …}, and nothing else.
"""

from __future__ import annotations

import json
import logging
import sys


def main() -> None:
    """Serve until standard input ends: then whoever started us is done, or dead."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        _, port = server.get_host_and_port()
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        return
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.buffer.read()
