"""An S3 endpoint that costs little itself: nginx with sendfile on loopback, serving the objects of one bucket from RAM.

It answers GET (with ranges and If-Match), HEAD and ListObjectsV2 of path-style requests and looks at no signature. At a
second port it speaks TLS; at a third each connection has at most 90 MB/s and each answer begins 20 ms late, as S3's do.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote
from xml.sax.saxutils import escape

BUCKET = "bench"
# Random bytes are made in blocks of this size, so that no second copy of the object is ever held.
_BLOCK_BYTES = 16 << 20
_START_TIMEOUT_S = 10.0
_LISTED_AT_ONCE = 1000
# Per connection, and before each answer.
SLOW_BYTES_PER_S, SLOW_DELAY_S = 90_000_000, 0.02
_CERTIFICATE = "ssl_certificate server.pem; ssl_certificate_key server.pem;"
# Where Debian has nginx's echo module (in nginx-light), which can wait.
_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")


class ServerUnavailable(RuntimeError):
    """nginx is not installed or did not start."""


@dataclass
class S3Object:
    """An object that the server offers, with the checksum that every client must arrive at."""

    key: str
    size_bytes: int
    sha256: str
    # As nginx makes it: both in hexadecimal.
    mtime_s: int

    @property
    def etag(self) -> str:
        return f'"{self.mtime_s:x}-{self.size_bytes:x}"'


@dataclass
class Nginx:
    """An nginx of our own, with its own configuration and directory; a context manager.

    `workers` is how many processes serve; two are enough to outrun every client here on two cores.
    """

    workers: int = 2
    objects: dict[str, S3Object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise ServerUnavailable("nginx is not installed (Debian: apt-get install nginx-light)")
        self._program = program
        # In RAM, so that no disk is measured.
        self.root = Path(tempfile.mkdtemp(prefix="diskless-bench-", dir=_ram_directory()))
        # The workers run as an unprivileged user when nginx is started by root.
        self.root.chmod(0o755)
        (self.root / BUCKET).mkdir()
        (self.root / "listing").mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._tls_port = self._slow_port = 0
        self.ca_bundle: Path | None = None

    def __enter__(self) -> Nginx:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str | None:
        """The same by TLS; None where no certificate can be made. Clients have to trust `ca_bundle`."""
        return f"https://localhost:{self._tls_port}" if self.ca_bundle else None

    @property
    def slow_endpoint(self) -> str | None:
        """The same with limited connections; None where nginx cannot wait."""
        return f"http://127.0.0.1:{self._slow_port}" if _ECHO.exists() else None

    @property
    def pids(self) -> list[int]:
        """The master and its workers."""
        if self._process is None:
            return []
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children")
        workers = children.read_text().split() if children.exists() else []
        return [master, *map(int, workers)]

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server has used so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def put_random(self, key: str, size_bytes: int) -> S3Object:
        """Store an object of random bytes: no range of it equals another, so a misplaced one changes the checksum."""
        digest = hashlib.sha256()
        (self.root / BUCKET / key).parent.mkdir(exist_ok=True)
        (self.root / BUCKET / key).parent.chmod(0o755)
        with open(self.root / BUCKET / key, "wb") as file:
            for offset in range(0, size_bytes, _BLOCK_BYTES):
                block = os.urandom(min(_BLOCK_BYTES, size_bytes - offset))
                digest.update(block)
                file.write(block)
        return self._add(key, digest.hexdigest())

    def put_file(self, key: str, source: Path) -> S3Object:
        """Store what a file holds, by moving it in."""
        (self.root / BUCKET / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, self.root / BUCKET / key)
        digest = hashlib.sha256()
        with open(self.root / BUCKET / key, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return self._add(key, digest.hexdigest())

    def _add(self, key: str, sha256: str) -> S3Object:
        path = self.root / BUCKET / key
        path.chmod(0o644)
        status = path.stat()
        entry = self.objects[key] = S3Object(key, status.st_size, sha256, int(status.st_mtime))
        return entry

    def start(self) -> None:
        """Start to serve the objects that are there."""
        self._write_listings()
        self.ca_bundle = _make_certificates(self.root)
        for _ in range(5):  # the free port may be taken by another in between
            self.port, self._tls_port, self._slow_port = _free_ports(3)
            (self.root / "nginx.conf").write_text(self._configuration())
            self._process = subprocess.Popen(
                [self._program, "-p", str(self.root), "-e", "error.log", "-c", str(self.root / "nginx.conf")],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            deadline = time.monotonic() + _START_TIMEOUT_S
            while time.monotonic() < deadline and self._process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
                time.sleep(0.01)
            self.stop()
        log = self.root / "error.log"
        raise ServerUnavailable(f"nginx did not start: {log.read_text() if log.exists() else 'no log'}")

    def stop(self) -> None:
        """End the server; its master ends the workers."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def forget_requests(self) -> None:
        """Empty the log of requests."""
        os.truncate(self.root / "access.log", 0)

    def first_request(self) -> float:
        """Return when (as `time.time()`) the first byte of the first request in the log came."""
        lines = (self.root / "access.log").read_text().splitlines()
        if not lines:
            raise ServerUnavailable("the server saw no request")
        return min(float(end) - float(took) for end, took, _ in (line.split(" ", 2) for line in lines))

    def requests(self) -> list[str]:
        """Return the requests in the log, each as method, URL and range."""
        return [line.split(" ", 2)[2] for line in (self.root / "access.log").read_text().splitlines()]

    def requests_after(self, moment: float) -> int:
        """Return how many requests in the log ended after that `time.time()`."""
        return sum(
            float(line.split(" ", 1)[0]) > moment for line in (self.root / "access.log").read_text().splitlines()
        )

    def _configuration(self) -> str:
        return f"""
daemon off;
worker_processes {self.workers};
pid nginx.pid;
error_log error.log;
{f"load_module {_ECHO};" if self.slow_endpoint else ""}
events {{ worker_connections 1024; }}
http {{
    # The end of each request and how long it took, to the millisecond: when the first one began is the start of a run.
    log_format times '$msec $request_time $request_method $request_uri $http_range $status';
    access_log access.log times;
    sendfile on;
    tcp_nopush on;
    sendfile_max_chunk 2m;
    keepalive_requests 100000;
    default_type application/octet-stream;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    map_hash_max_size 8192;
    map_hash_bucket_size 256;
    # A page of a listing is told by its continuation token, the first by the prefix.
    map $args $listing {{
        default empty;
        "~continuation-token=(?<token>[a-z0-9-]+)" $token;
{self._listed()}
        "~^((?!prefix=).)*$" all;
        "~prefix=(&|$)" all;
    }}
    {_server(self.port, self._answers())}
    {_server(self._tls_port, _CERTIFICATE + self._answers(), "ssl") if self.ca_bundle else ""}
    {_server(self._slow_port, self._late_answers()) if self.slow_endpoint else ""}
}}
"""

    def _answers(self) -> str:
        return f"""
        root {self.root};
        location ~ ^/{BUCKET}/?$ {{
            default_type application/xml;
            try_files /listing/$listing =404;
        }}
        location /{BUCKET}/ {{
            add_header x-amz-request-id benchmark;
        }}"""

    def _late_answers(self) -> str:
        wait = f"echo_sleep {SLOW_DELAY_S};"
        return f"""
        root {self.root};
        limit_rate {SLOW_BYTES_PER_S};
        location ~ ^/{BUCKET}/?$ {{ {wait} echo_exec @listing; }}
        location /{BUCKET}/ {{ {wait} echo_exec @object; }}
        location @listing {{
            default_type application/xml;
            try_files /listing/$listing =404;
        }}
        location @object {{ add_header x-amz-request-id benchmark; }}"""

    def _listed(self) -> str:
        """Return the lines of the map that tell a prefix's first page."""
        names = [f'        "~prefix={quote(prefix, safe="")}(&|$)" {name}-0;' for prefix, name in self._prefixes()]
        names += [f'        "~prefix={prefix}(&|$)" {name}-0;' for prefix, name in self._prefixes() if "/" in prefix]
        return "\n".join(names)

    def _prefixes(self) -> list[tuple[str, str]]:
        """Return every prefix that is listed, and the name of its pages: each object's key and each directory."""
        parts = [key.split("/")[:-1] for key in self.objects]
        directories = dict.fromkeys("/".join(each[:depth]) + "/" for each in parts for depth in range(len(each), 0, -1))
        keys = [key for key in self.objects if "/" not in key]
        return [(prefix, f"listing-{number}") for number, prefix in enumerate([*keys, *directories])]

    def _write_listings(self) -> None:
        entries = list(self.objects.values())
        (self.root / "listing" / "empty").write_text(_listing([]))
        (self.root / "listing" / "all").write_text(_listing(entries))
        for prefix, name in self._prefixes():
            below = sorted((entry for entry in entries if entry.key.startswith(prefix)), key=lambda entry: entry.key)
            for page, start in enumerate(range(0, len(below), _LISTED_AT_ONCE)):
                more = f"{name}-{page + 1}" if start + _LISTED_AT_ONCE < len(below) else ""
                listing = _listing(below[start : start + _LISTED_AT_ONCE], prefix, more)
                (self.root / "listing" / f"{name}-{page}").write_text(listing)


def _server(port: int, answers: str, kind: str = "") -> str:
    return f"server {{ listen 127.0.0.1:{port} {kind}; {answers} }}"


def _listing(entries: list[S3Object], prefix: str = "", more: str = "") -> str:
    """Return a ListBucketResult (S3 API reference, ListObjectsV2); `more` is the token of the next page."""
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    contents = "".join(
        f"<Contents><Key>{escape(entry.key)}</Key>"
        f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(entry.mtime_s))}</LastModified>"
        f"<ETag>{escape(entry.etag)}</ETag><Size>{entry.size_bytes}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for entry in entries
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
    )


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _make_certificates(directory: Path) -> Path | None:
    """Write ``server.pem`` to the directory, and return the authority to trust; None where openssl is missing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    authority, pem = directory / "authority.pem", directory / "server.pem"
    key, request, extensions = directory / "key.pem", directory / "request.pem", directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signed = ["-CA", authority, "-CAkey", directory / "authority.key", "-CAcreateserial", "-days", "2"]
    for arguments in (
        [
            "req",
            "-x509",
            *curve,
            "-keyout",
            directory / "authority.key",
            "-out",
            authority,
            "-subj",
            "/CN=benchmark",
            "-days",
            "2",
        ],
        ["req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", request, *signed, "-extfile", extensions, "-out", pem],
    ):
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True)
    pem.write_text(pem.read_text() + key.read_text())
    authority.chmod(0o644)
    return authority


def _ram_directory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
