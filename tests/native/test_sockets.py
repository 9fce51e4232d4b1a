"""Unix sockets on a path of a scratch work as on a tmpfs, within the processes that come of one by fork."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import diskless
from tests.native.tree import HERE, error_of

# Printed below a directory of a tmpfs and of a scratch.
SCENARIO = r"""
import errno, os, socket, stat, sys
base = sys.argv[1]
os.umask(0o022)

def say(*words): print(*(str(word).replace(base, "@") for word in words), flush=True)
def attempt(name, call):
    try: say(name, call())
    except OSError as error: say(name, errno.errorcode.get(error.errno, error))

def new(kind=socket.SOCK_STREAM): return socket.socket(socket.AF_UNIX, kind)

server = new()
attempt("nowhere", lambda: new().bind(f"{base}/none/s"))
attempt("bind", lambda: server.bind(f"{base}/s"))
attempt("name", server.getsockname)
attempt("again", lambda: new().bind(f"{base}/s"))
status = os.stat(f"{base}/s")
say(oct(status.st_mode), status.st_nlink, status.st_size, status.st_uid, stat.S_ISSOCK(status.st_mode))
say([(entry.name, entry.is_file(), entry.is_dir(), entry.is_symlink()) for entry in os.scandir(base)])
attempt("before listen", lambda: new().connect(f"{base}/s"))
server.listen()
client = new()
attempt("connect", lambda: client.connect(f"{base}/s"))
peer, address = server.accept()
say(repr(address), client.getpeername(), repr(client.getsockname()), peer.getsockname(), repr(peer.getpeername()))
client.sendall(b"over"); say(peer.recv(10))
attempt("open", lambda: os.open(f"{base}/s", os.O_RDONLY))
attempt("open to write", lambda: os.open(f"{base}/s", os.O_WRONLY | os.O_CREAT))
attempt("truncate", lambda: os.truncate(f"{base}/s", 0))
attempt("chdir", lambda: os.chdir(f"{base}/s"))
attempt("through a symlink", lambda: (os.symlink("s", f"{base}/l"), new().connect(f"{base}/l")))
attempt("on a symlink", lambda: new().bind(f"{base}/l"))
attempt("onto nothing", lambda: new().connect(f"{base}/nothing"))
attempt("onto nothing there", lambda: new().connect(f"{base}/nothing/there"))
attempt("beneath", lambda: new().connect(f"{base}/s/x"))
open(f"{base}/f", "w").close()
attempt("onto a file", lambda: new().connect(f"{base}/f"))
attempt("onto a directory", lambda: new().connect(base))
attempt("over a file", lambda: new().bind(f"{base}/f"))
attempt("with a slash", lambda: new().bind(f"{base}/t/"))
attempt("datagram to a stream", lambda: new(socket.SOCK_DGRAM).connect(f"{base}/s"))
attempt("renamed", lambda: (os.rename(f"{base}/s", f"{base}/r"), new().connect(f"{base}/r")))
attempt("linked", lambda: (os.link(f"{base}/r", f"{base}/k"), new().connect(f"{base}/k")))
say(os.stat(f"{base}/k").st_nlink)
attempt("chmod", lambda: (os.chmod(f"{base}/r", 0o600), oct(os.stat(f"{base}/k").st_mode)))
attempt("utime", lambda: (os.utime(f"{base}/r", (1, 2)), os.stat(f"{base}/k").st_mtime))
attempt("access", lambda: os.access(f"{base}/r", os.X_OK))
attempt("xattr", lambda: os.setxattr(f"{base}/r", "user.x", b"y"))
attempt("xattr", lambda: os.getxattr(f"{base}/r", "user.x"))
attempt("unlink", lambda: os.unlink(f"{base}/r"))
attempt("one is left", lambda: new().connect(f"{base}/k"))
attempt("unlink", lambda: os.unlink(f"{base}/k"))
attempt("gone", lambda: new().connect(f"{base}/s"))
second = new()
attempt("bound anew", lambda: (second.bind(f"{base}/s"), second.getsockname(), server.getsockname()))
second.listen()
other = new(); other.connect(f"{base}/s"); other.sendall(b"second"); say(second.accept()[0].recv(10))
second.close()
attempt("stale", lambda: new().connect(f"{base}/s"))

one, two, three = (new(socket.SOCK_DGRAM) for _ in range(3))
one.bind(f"{base}/one"); two.bind(f"{base}/two")
attempt("sendto", lambda: two.sendto(b"datagram", f"{base}/one"))
attempt("recvfrom", lambda: one.recvfrom(100))
attempt("sendmsg", lambda: two.sendmsg([b"data", b"gram"], [], 0, f"{base}/one"))
attempt("recvmsg", lambda: one.recvmsg(100))
attempt("nameless", lambda: (three.sendto(b"x", f"{base}/one"), one.recvfrom(10)))
attempt("sendto nothing", lambda: two.sendto(b"x", f"{base}/none"))
attempt("connected", lambda: (two.connect(f"{base}/one"), two.send(b"y"), one.recv(10), two.getpeername()))
attempt("too long", lambda: new().connect(base + "/" + "x" * 100))
try: new().bind("\0abstract" + str(os.getpid())); say("abstract")
except OSError as error: say(error)
if os.getuid() == 0:
    os.chmod(base, 0o755); third = new(); third.bind(f"{base}/third"); third.listen()
    if os.fork() == 0:
        os.setuid(65534)
        attempt("as nobody", lambda: new().connect(f"{base}/third"))
        attempt("as nobody", lambda: new().bind(f"{base}/fourth"))
        os._exit(0)
    os.wait()
"""


def run_script(script: str, *arguments: object) -> str:
    source = f"import sys\nsys.path[:0] = {sys.path!r}\n" + textwrap.dedent(script)
    command = [sys.executable, "-c", source, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=HERE.parent.parent)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_sockets_answer_as_on_a_tmpfs() -> None:
    try:
        directory = tempfile.TemporaryDirectory(dir="/dev/shm")
    except OSError as error:
        pytest.skip(f"no tmpfs at /dev/shm: {error}")
    with directory as base:
        os.chmod(base, 0o755)
        expected = run_script(SCENARIO, base)
    ours = run_script("import diskless\nscratch = diskless.scratch()\nsys.argv[1] = scratch.path\n" + SCENARIO, "-")
    assert ours.splitlines() == expected.splitlines()


@pytest.fixture
def scratch() -> Iterator[Path]:
    with diskless.scratch() as path:
        yield Path(path)


def test_a_socket_that_a_child_binds_is_found_by_its_parent(scratch: Path) -> None:
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"{scratch}/s")
        server.listen()
        os.write(ready[1], b"x")
        server.accept()[0].sendall(b"from the child")
        os._exit(0)
    os.read(ready[0], 1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{scratch}/s")
        assert client.recv(100) == b"from the child"
    assert os.waitpid(child, 0)[1] == 0


def test_a_path_too_long_to_be_spelled_out_is_one_too(scratch: Path) -> None:
    directory = scratch / ("d" * 70)
    directory.mkdir()
    path = f"{directory}/{'s' * (107 - len(str(directory)) - 1)}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        assert os.path.exists(path)


def test_a_peer_of_another_user_is_let_go(scratch: Path) -> None:
    """Whoever reads /proc/net/unix knows the abstract address; the path's permissions are not asked then."""
    if os.geteuid() != 0:
        pytest.skip("only root can become two users")
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{scratch}/s")
    abstract = [
        line.split(" @", 1)[1]
        for line in Path("/proc/net/unix").read_text("latin-1").splitlines()
        if line.endswith(f"{scratch}/s") and " @" in line
    ]
    assert len(abstract) == 1
    server.listen()
    server.setblocking(False)
    stranger = os.fork()
    if stranger == 0:
        try:
            os.setuid(65534)
            client = socket.socket(socket.AF_UNIX)
            client.connect("\0" + abstract[0])
            os._exit(0 if client.recv(1) == b"" else 1)
        finally:
            os._exit(2)
    select.select([server], [], [])
    assert error_of(server.accept) == errno.EAGAIN
    assert os.waitpid(stranger, 0)[1] == 0
    with socket.socket(socket.AF_UNIX) as friend:
        friend.connect(f"{scratch}/s")
        assert server.accept()[0].getsockname() == f"{scratch}/s"
    server.close()


def test_multiprocessing_and_asyncio_serve_on_sockets_under_a_scratch_at_tmp() -> None:
    script = """
        import asyncio, multiprocessing, os, sys, tempfile
        from multiprocessing.connection import Client, Listener
        import diskless

        def serve(listener):
            with listener.accept() as connection: connection.send([listener.address, connection.recv()])

        async def talk(path):
            async def answer(reader, writer):
                writer.write((await reader.readline()).upper())
                await writer.drain()
                writer.close()
            server = await asyncio.start_unix_server(answer, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"hello\\n")
            answered = await reader.read()
            server.close()
            again = await asyncio.start_unix_server(answer, path)
            again.close()
            return answered

        with diskless.scratch(at="/tmp"):
            tempfile.tempdir = "/tmp"
            fork = multiprocessing.get_context("fork")
            with Listener(family="AF_UNIX") as listener:
                assert listener.address.startswith("/tmp/")
                child = fork.Process(target=serve, args=(listener,))
                child.start()
                with Client(listener.address) as connection:
                    connection.send(42)
                    assert connection.recv() == [listener.address, 42]
                child.join()
            assert asyncio.run(talk("/tmp/async")) == b"HELLO\\n"
            with fork.Manager() as manager:
                shared = manager.dict(a=1)
                child = fork.Process(target=shared.update, kwargs={"b": 2})
                child.start()
                child.join()
                assert dict(shared) == {"a": 1, "b": 2}
            os._exit(0)  # multiprocessing would remove its directory at the very end, when the scratch is gone
    """
    run_script(script)
