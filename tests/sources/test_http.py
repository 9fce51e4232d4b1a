"""Small requests: proxies, certificates, retries, and what is said when nobody answers."""

from __future__ import annotations

import base64
import socket
import threading
import urllib.request

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diskless.errors import Cancelled, InvalidOption, SourceUnavailable
from diskless.sources import http
from diskless.sources.environment import PROXIES
from diskless.sources.http import Connection, Connections, Endpoint, proxy_for, request
from tests.servers import free_port
from tests.sources.stub_server import Answer, Asked, StubServer

PASSWORD = "pro/xy" + "-planted"
QUOTED = PASSWORD.replace("/", "%2F")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(http, "_PAUSE_S", 0)


def test_a_request_brings_status_headers_and_body():
    with StubServer(lambda asked: Answer(404, b"body", {"X-Amz-Bucket-Region": "eu"})) as server:
        status, headers, body = request(Endpoint(server.url), "POST", "/a?b=c", {"x-one": "1"}, b"sent")
    assert (status, headers["x-amz-bucket-region"], body) == (404, "eu", b"body")
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.headers["x-one"], asked.body) == ("POST", "/a?b=c", "1", b"sent")
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("odd", ["\n", "\r\nx-more: 1", "\0", "\x7f", "\N{EURO SIGN}", "\udcff"])
@pytest.mark.parametrize("ask", [request, lambda endpoint, *asked: Connection(endpoint).request(*asked, None)])
def test_a_header_that_cannot_be_sent_is_named_and_not_shown(ask, odd):
    with pytest.raises(InvalidOption, match="the header x-token cannot be sent") as caught:
        ask(Endpoint("http://127.0.0.1:1"), "GET", "/", {"x-one": "1", "x-token": f"{PASSWORD}{odd}"})
    assert PASSWORD not in f"{caught.value!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_error_is_tried_again(status):
    answers = [Answer(status), Answer(status), Answer(200, b"at last")]
    with StubServer(lambda asked: answers.pop(0)) as server:
        assert request(Endpoint(server.url), "GET", "/", {})[::2] == (200, b"at last")
    assert len(server.asked) == 3


def test_a_server_error_that_lasts_is_returned():
    with StubServer(lambda asked: Answer(503, b"<Code>SlowDown</Code>")) as server:
        assert request(Endpoint(server.url), "GET", "/", {})[::2] == (503, b"<Code>SlowDown</Code>")
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [301, 400, 403, 404, 412])
def test_what_the_server_means_is_not_asked_again(status):
    with StubServer(lambda asked: Answer(status)) as server:
        assert request(Endpoint(server.url), "GET", "/", {})[0] == status
    assert len(server.asked) == 1


def test_a_connection_that_breaks_is_tried_again():
    def answer(asked):
        if len(server.asked) < 3:
            raise ConnectionResetError
        return Answer(200, b"at last")

    with StubServer(answer) as server:
        assert request(Endpoint(server.url), "GET", "/", {})[2] == b"at last"


def test_a_server_that_never_answers_is_given_up_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SourceUnavailable, match=f"{url} cannot be reached: TimeoutError"):
            request(Endpoint(url), "GET", "/", {}, timeout_s=0.1, attempts=1)


def test_a_refused_connection_says_what_to_look_at():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceUnavailable) as caught:
        request(Endpoint(url), "GET", "/", {})
    said = str(caught.value)
    assert said.startswith(f"{url} cannot be reached: ConnectionRefusedError")
    assert said.endswith("; is the server running, and the endpoint (AWS_ENDPOINT_URL) right?")
    assert isinstance(caught.value, ConnectionError) and caught.value.__suppress_context__


def test_a_host_that_does_not_exist_says_what_to_look_at():
    with pytest.raises(SourceUnavailable, match="is the host name in the endpoint right, and is there a network"):
        request(Endpoint("http://no-such-host.invalid"), "GET", "/", {}, attempts=1)


def test_what_is_no_http_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        client = socket.create_connection(server.getsockname())
        client.close()
        server.accept()[0].close()
        import threading

        def speak() -> None:
            connection = server.accept()[0]
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-server\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(SourceUnavailable, match="cannot be reached: BadStatusLine"):
            request(Endpoint(url), "GET", "/", {}, attempts=1)
        thread.join()


# Certificates.


@pytest.mark.parametrize("bundle", ["authority", "bundle"])
def test_a_private_authority_is_trusted_where_it_is_named(certificates, bundle):
    with StubServer(lambda asked: Answer(200, b"secret"), certificates.server) as server:
        endpoint = Endpoint(server.url, str(getattr(certificates, bundle)))
        assert request(endpoint, "GET", "/", {})[2] == b"secret"


def test_any_certificate_is_taken_where_that_is_asked_for(certificates):
    with StubServer(lambda asked: Answer(200, b"secret"), certificates.server) as server:
        assert request(Endpoint(server.url, "/no/such/file", verify_tls=False), "GET", "/", {})[2] == b"secret"


@pytest.mark.parametrize("bundle", [None, "other_authority"])
def test_an_untrusted_certificate_is_refused_at_once_and_the_setting_is_named(certificates, monkeypatch, bundle):
    attempts: list[int] = []
    exchange = Connection.exchange
    monkeypatch.setattr(Connection, "exchange", lambda *arguments: attempts.append(1) or exchange(*arguments))
    trusted = str(getattr(certificates, bundle)) if bundle else None
    with (
        StubServer(lambda asked: Answer(200), certificates.server) as server,
        pytest.raises(SourceUnavailable) as caught,
    ):
        request(Endpoint(server.url, trusted), "GET", "/", {})
    said = str(caught.value)
    assert said.startswith(f"{server.url} cannot be reached: SSLCertVerificationError")
    assert said.endswith("; is the right certificate authority in AWS_CA_BUNDLE?")
    assert server.asked == [] and len(attempts) == 1


def test_a_certificate_for_another_host_is_refused(certificates):
    with (
        StubServer(lambda asked: Answer(200), certificates.elsewhere) as server,
        pytest.raises(SourceUnavailable, match=r"SSLCertVerificationError.*not valid for '127\.0\.0\.1'"),
    ):
        request(Endpoint(server.url, str(certificates.authority)), "GET", "/", {})


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_cannot_be_read_are_named(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match=rf"\(AWS_CA_BUNDLE, or 'verify'\) cannot be read from {path}: \S+"):
        request(Endpoint("https://127.0.0.1:1", str(path)), "GET", "/", {})


# Proxies.

_VARIABLES = st.dictionaries(
    st.sampled_from(PROXIES),
    st.sampled_from(
        ["", "http://proxy:1", "http://other:2", "*", "example.com", ".example.com, b.example.com", "h:9000"]
    ),
    max_size=5,
)
_URLS = [
    "http://example.com",
    "https://example.com",
    "https://a.b.example.com",
    "https://bexample.com",
    "http://h:9000",
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(environment=_VARIABLES, url=st.sampled_from(_URLS))
def test_the_environment_names_the_proxy_that_urllib_would_take(no_env, environment, url):
    with no_env.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        proxies = urllib.request.getproxies_environment()
        scheme, _, host = url.partition("://")
        bypassed = urllib.request.proxy_bypass_environment(host)
    expected = None if bypassed else proxies.get(scheme) or proxies.get("all")
    assert proxy_for(url, environment) == expected


def test_a_proxy_is_asked_for_the_whole_url_and_told_the_password():
    with StubServer(lambda asked: Answer(200, b"through")) as proxy:
        url = f"http://us%40er:{QUOTED}@127.0.0.1:{proxy.port}"
        endpoint = Endpoint("http://models.example:81", proxy=url)
        assert request(endpoint, "GET", "/a?b", {"authorization": "mine"})[2] == b"through"
    (asked,) = proxy.asked
    assert (asked.target, asked.headers["host"]) == ("http://models.example:81/a?b", "models.example:81")
    expected = base64.b64encode(f"us@er:{PASSWORD}".encode()).decode()
    assert asked.headers["proxy-authorization"] == f"Basic {expected}"
    assert asked.headers["authorization"] == "mine"


def test_tls_goes_through_a_tunnel_and_only_the_proxy_is_told_its_password():
    with StubServer(lambda asked: Answer(407, b"")) as proxy:
        endpoint = Endpoint("https://models.example", proxy=f"http://user:{QUOTED}@127.0.0.1:{proxy.port}")
        with pytest.raises(SourceUnavailable) as caught:
            request(endpoint, "GET", "/", {"authorization": "mine"}, attempts=1)
    (asked,) = proxy.asked
    assert (asked.method, asked.target) == ("CONNECT", "models.example:443")
    assert "proxy-authorization" in asked.headers and "authorization" not in asked.headers
    said = str(caught.value)
    assert "cannot be reached through the proxy 127.0.0.1: OSError: Tunnel connection failed: 407" in said
    assert "planted" not in said and "planted" not in repr(endpoint)


@pytest.mark.parametrize("proxy", ["http://user:{}@proxy:1", "http://proxy:{}", "http://[{}"])
def test_a_proxy_that_is_no_url_is_refused_and_not_shown(proxy):
    with pytest.raises(InvalidOption, match=r"the proxy that the environment names .* is no URL") as caught:
        request(Endpoint("http://models.example", proxy=proxy.format(PASSWORD)), "GET", "/", {})
    assert "pro/" not in str(caught.value) and "planted" not in str(caught.value)


def test_a_proxy_needs_no_scheme():
    with StubServer(lambda asked: Answer(200, b"through")) as proxy:
        endpoint = Endpoint("http://models.example", proxy=f"127.0.0.1:{proxy.port}")
        assert request(endpoint, "GET", "/", {})[2] == b"through"


# Connections for large bodies.


def _pieces(data: bytes, size: int):
    """The data in pieces, all in one buffer."""
    buffer = memoryview(bytearray(size))
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        buffer[: len(piece)] = piece
        yield buffer[: len(piece)]


def test_a_body_in_pieces_is_one_body_and_the_connection_is_kept():
    data = bytes(range(256)) * 5000
    with StubServer(lambda asked: Answer(200, b"there")) as server:
        connection = Connection(Endpoint(server.url))
        for size in (1000, 1 << 20):
            length = {"content-length": str(len(data))}
            assert connection.request("PUT", "/a", length, _pieces(data, size))[::2] == (200, b"there")
        assert connection.request("DELETE", "/a", {}, b"")[0] == 200
        connection.close()
        assert [asked.body for asked in server.asked] == [data, data, b""]
        assert len({asked.port for asked in server.asked}) == 1


def test_an_error_of_the_body_gets_through_and_the_connection_works_again():
    def fails():
        yield memoryview(b"begun")
        raise Cancelled("by its owner")

    with StubServer(lambda asked: Answer(200)) as server:
        connection = Connection(Endpoint(server.url))
        with pytest.raises(Cancelled, match="by its owner"):
            connection.request("PUT", "/a", {"content-length": "10"}, fails())
        assert connection.request("PUT", "/b", {"content-length": "2"}, [memoryview(b"ok")])[0] == 200
        connection.close()


def test_a_refusal_that_comes_before_the_end_of_the_body_is_read():
    """S3 answers 403 and closes, while there is more to be sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            peer, _ = listening.accept()
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            refused.set()
            go.wait(20)
            peer.close()

        refused, go = threading.Event(), threading.Event()
        server = threading.Thread(target=refuse)
        server.start()

        def body():
            yield memoryview(b"x" * 1000)
            refused.wait(20)
            connection._open.sock.shutdown(socket.SHUT_WR)  # as when the other side has closed: a broken pipe
            yield memoryview(b"x" * 1000)

        connection = Connection(Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        assert connection.request("PUT", "/a", {"content-length": "2000"}, body())[::2] == (403, b"no")
        go.set()
        server.join()


def test_closing_wakes_who_waits_for_an_answer():
    go = threading.Event()

    def answer(asked: Asked) -> Answer:
        closing.start()
        go.wait(20)
        return Answer(200)

    with StubServer(answer) as server:
        connection = Connection(Endpoint(server.url))
        closing = threading.Thread(target=connection.close)
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            connection.request("PUT", "/a", {"content-length": "1"}, [memoryview(b"x")])
        go.set()
        closing.join()


def test_a_kept_connection_that_the_server_has_ended_is_replaced_at_once():
    """Where the body can be sent again."""
    ports: list[int] = []

    def serve() -> None:
        for _ in range(2):
            peer, address = listening.accept()
            ports.append(address[1])
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        connection = Connection(Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        for _ in range(2):
            assert connection.request("GET", "/", {}, None)[::2] == (200, b"ok")
        server.join()
        assert len(set(ports)) == 2
        connection.close()


def test_each_thread_has_a_connection_of_its_own():
    with StubServer(lambda asked: Answer(200)) as server:
        connections = Connections(Endpoint(server.url))

        def ask() -> None:
            for _ in range(3):
                request(Endpoint(server.url), "GET", "/", {}, connection=connections.mine())

        asking = threading.Thread(target=ask)
        asking.start()
        ask()
        asking.join()
        connections.close()
        assert len({asked.port for asked in server.asked}) == 2 and len(server.asked) == 6
