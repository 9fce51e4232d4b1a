"""Messages: one send is one receive, whole or refused, with as many descriptors as fit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diskless.loader.protocol import MAX_DESCRIPTORS, MAX_MESSAGE_BYTES, SocketChannel, pieces, queues
from diskless.loader.start import pair


def _sockets():
    near, far = pair()
    return SocketChannel(near), SocketChannel(far)


@pytest.fixture(params=[_sockets, queues], ids=["processes", "threads"])
def ends(request):
    channels = request.param()
    yield channels
    for channel in channels:
        channel.close()


@pytest.fixture
def sockets():
    channels = _sockets()
    yield channels
    for channel in channels:
        channel.close()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def test_messages_keep_their_bounds_and_their_order(ends) -> None:
    near, far = ends
    sent = [{"op": "a", "n": number, "text": "ä\udcff" * number} for number in range(50)]
    for message in sent:
        near.send(message)
    assert [far.receive() for _ in sent] == [(message, []) for message in sent]


def test_253_descriptors_go_in_one_message_and_arrive_close_on_exec(ends) -> None:
    near, far = ends
    reading, writing = os.pipe()
    near.send({"op": "files"}, [reading] * MAX_DESCRIPTORS)
    _, received = far.receive()
    try:
        assert len(received) == 253 and not any(os.get_inheritable(fd) for fd in received)
        os.write(writing, b"x" * 253)
        assert b"".join(os.read(fd, 1) for fd in received) == b"x" * 253
    finally:
        _close([*received, reading, writing])


def test_one_descriptor_or_one_byte_too_many_is_refused(sockets) -> None:
    near, _ = sockets
    with pytest.raises(ValueError, match="254 descriptors"):
        near.send({"op": "files"}, [0] * (MAX_DESCRIPTORS + 1))
    room = MAX_MESSAGE_BYTES - len(json.dumps({"t": ""}, separators=(",", ":")))
    near.send({"t": "x" * room})
    with pytest.raises(ValueError, match="bytes"):
        near.send({"t": "x" * (room + 1)})


def test_the_largest_message_fits_the_socket_with_the_default_buffer(sockets) -> None:
    """A SEQPACKET message larger than the buffer would never be sent (EMSGSIZE)."""
    near, far = sockets
    message = {"t": "x" * (MAX_MESSAGE_BYTES - 10)}
    near.send(message)
    assert far.receive() == (message, [])


def test_an_offer_never_blocks(ends) -> None:
    near, far = ends
    sent = 0
    while near.offer({"n": sent, "text": "x" * 1000}):
        sent += 1
    assert sent > 10
    assert [far.receive()[0]["n"] for _ in range(sent)] == list(range(sent))
    assert near.offer({"n": sent}), "there is room again"


@pytest.mark.parametrize("how", ["close", "end"])
def test_the_end_of_one_side_is_seen_by_the_other(ends, how: str) -> None:
    near, far = ends
    getattr(far, how)()
    with pytest.raises(EOFError):
        near.receive()
    with pytest.raises(BrokenPipeError):
        near.send({"op": "x"})
    assert not near.offer({"op": "x"})


def test_an_end_wakes_who_waits_though_another_process_holds_a_copy_of_the_socket(sockets) -> None:
    near, far = sockets
    copy = socket.socket(fileno=os.dup(far.fileno()))
    raised: list[type] = []

    def wait() -> None:
        try:
            near.receive()
        except EOFError as error:
            raised.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    far.end()
    waiting.join(30)
    copy.close()
    assert raised == [EOFError]


def test_descriptors_of_a_message_that_is_never_received_are_closed(ends) -> None:
    near, far = ends
    reading, writing = os.pipe()
    near.send({"op": "files"}, [writing])
    os.close(writing)
    far.close()
    near.close()
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_descriptors_that_are_sent_to_a_thread_that_has_left_are_closed() -> None:
    near, far = queues()
    reading, writing = os.pipe()
    put = near._outbox.put

    class Late:
        """Puts a message when the other side has just looked for the last time."""

        def __getattr__(self, name: str) -> object:
            return getattr(far._inbox, name)

        def put(self, item: object) -> None:
            if item is not None:
                far.close()
            put(item)

    near._outbox = Late()
    near.send({"op": "files"}, [writing])
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)


def _python(script: str, *wrapper: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [*wrapper, sys.executable, "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("connect", ["map(SocketChannel, pair())", "queues()"])
def test_descriptors_that_do_not_fit_the_receiver_are_an_error_and_none_is_leaked(connect: str) -> None:
    out = _python(f"""
        import os, resource
        from diskless.errors import DescriptorLimit
        from diskless.loader.protocol import SocketChannel, queues
        from diskless.loader.start import pair
        near, far = {connect}
        null = os.open(os.devnull, os.O_RDONLY)
        used = len(os.listdir("/proc/self/fd"))
        def limit(more):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, used + 40))
        if "queues" in {connect!r}:
            limit(20)
        near.send({{"op": "files"}}, [null] * 40)
        limit(20)
        try:
            far.receive()
        except DescriptorLimit as error:
            print("RLIMIT_NOFILE" in str(error), len(os.listdir("/proc/self/fd")) == used)
        near.send({{"op": "next"}})
        print(far.receive())
    """)
    assert out.splitlines() == ["True True", "({'op': 'next'}, [])"]


def test_a_sender_waits_while_too_many_descriptors_are_under_way() -> None:
    """As no root: what was sent and not received counts against the sender's limit, in all its processes together."""
    drop = ["setpriv", "--reuid=54322", "--clear-groups", "--inh-caps=-all,+dac_read_search"]
    wrapper = [*drop, "--ambient-caps=-all,+dac_read_search"] if os.geteuid() == 0 else []
    out = _python(
        """
        import os, resource, threading
        from diskless.loader.protocol import SocketChannel
        from diskless.loader.start import pair
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        near, far = map(SocketChannel, pair())
        null = os.open(os.devnull, os.O_RDONLY)
        for _ in range(3):     # the third makes them more than the limit; one more is refused by the kernel
            near.send({"op": "files"}, [null] * 80)
        def receive():
            for _ in range(4):
                for fd in far.receive()[1]:
                    os.close(fd)
        receiving = threading.Timer(0.2, receive)
        receiving.start()
        near.send({"op": "files"}, [null] * 80)
        receiving.join()
        print("sent")
        """,
        *wrapper,
    )
    assert out == "sent"


@given(st.lists(st.text(max_size=300)), st.integers(1, 50), st.integers(100, 5000))
def test_pieces_are_all_the_items_in_order_and_small_enough(items: list[str], most: int, size_bytes: int) -> None:
    found = list(pieces(items, most, size_bytes=size_bytes))
    assert [item for piece in found for item in piece] == items
    assert all(1 <= len(piece) <= most for piece in found)
    # An item that is too long alone is a piece of its own.
    assert all(len(json.dumps(piece, separators=(",", ":"))) <= size_bytes + 2 or len(piece) == 1 for piece in found)
