"""What runs in the Loader process: takes connections over the control socket and serves each in a thread."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading

from diskless.loader.protocol import VERSION, SocketChannel
from diskless.loader.serve import Service

# Descriptors as `start` hands them over.
CONTROL_FD = 3
_IDLE_S = 5.0


def main() -> None:
    """Serve until the user's process is gone or has had nothing to load for a while."""
    _raise_descriptor_limit()
    # Who opens a file while this process holds a lease on it (room.py) makes the kernel send one.
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    # obstore reads them, and they are those of the moment this was started; a spec holds the present ones.
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
        del os.environ[name]
    control = _channel(CONTROL_FD)
    try:
        control.send({"op": "hello", "version": VERSION, "pid": os.getpid()})
    except OSError:  # the user's process is gone already
        os._exit(0)
    # While nothing is asked yet, and while the first listing is on its way.
    threading.Thread(target=_import_early, daemon=True).start()

    services: list[threading.Thread] = []
    while True:
        if not select.select([control], [], [], _IDLE_S)[0]:
            services = [service for service in services if service.is_alive()]
            if services:
                continue
            break
        try:
            _, descriptors = control.receive()
        except (EOFError, OSError):
            break
        for fd in descriptors:
            serves = Service(_channel(fd))
            service = threading.Thread(target=serves.run, daemon=True)
            try:
                service.start()
            except RuntimeError as error:
                serves.refuse(error)
            else:
                services.append(service)
    # At once, in mid-transfer too: nobody is left to read what the other threads write.
    os._exit(0)


def _channel(fd: int) -> SocketChannel:
    """Take up a connection, whose other side may have made it one that does not wait."""
    connection = socket.socket(fileno=fd)
    connection.setblocking(True)
    return SocketChannel(connection)


def _import_early() -> None:
    """Import what nearly every job uses, and finds imported then; what fails here fails there, and is answered."""
    with contextlib.suppress(Exception):
        import obstore.store  # noqa: F401  # only to be there when it is needed

        import diskless.sources.s3  # noqa: F401  # as above


def _raise_descriptor_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
