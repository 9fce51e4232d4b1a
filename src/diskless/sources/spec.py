"""What is to be read and as whom: plain data that crosses from the user's process to the Loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, NamedTuple, Protocol

from diskless.errors import CredentialsError
from diskless.sources.checksums import Checksum
from diskless.sources.url import URL

Message = dict[str, Any]


class Object(NamedTuple):
    """One object of a store, pinned to the version that was listed.

    `path` is where it goes below the URL (the last part of its key when the URL is the object itself).
    """

    key: str
    path: str
    size_bytes: int
    etag: str | None
    version: str | None
    mtime_ns: int
    # From a manifest, as `Checksum.text`.
    checksum: str | None = None

    def to_message(self) -> Sequence[Any]:
        return self

    @staticmethod
    def from_message(message: Iterable[Any]) -> Object:
        return Object._make(message)


@dataclass(frozen=True)
class Listing:
    """What is below a URL. `refused` are keys that cannot be files, and why."""

    objects: list[Object]
    refused: list[tuple[str, str]]
    is_object: bool


@dataclass(frozen=True)
class Credentials:
    """Keys of AWS's Signature Version 4. `expires_at` is seconds since the epoch; None: never.

    Raises CredentialsError for one that no header can carry, wherever it comes from.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        # Who sends it anyway gets an error that quotes it.
        for name, value in (
            ("access key (AWS_ACCESS_KEY_ID, or 'key' in storage_options)", self.key),
            ("secret key (AWS_SECRET_ACCESS_KEY, or 'secret' in storage_options)", self.secret),
            ("session token (AWS_SESSION_TOKEN, or 'token' in storage_options)", self.token or ""),
        ):
            if value != value.strip() or not value.isprintable():
                raise CredentialsError(
                    f"the {name} has white space around it or a control character in it, perhaps the newline at the "
                    "end of the file that it was read from: give it without, such as by `.strip()` or `$(cat FILE)`"
                )

    def to_message(self) -> Message:
        return asdict(self)

    @staticmethod
    def from_message(message: Message) -> Credentials:
        return Credentials(**message)


@dataclass(frozen=True)
class SourceSpec:
    """Everything the Loader needs to read a URL. Printing it shows no secret."""

    url: URL
    region: str | None = None
    endpoint: str | None = None
    path_style: bool = False
    anonymous: bool = False
    # None: the Loader asks web identity, the container's endpoint or the instance's.
    credentials: Credentials | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    verify_tls: bool = True
    request_payer: bool = False
    fips: bool = False
    dualstack: bool = False
    # In obstore's words: all that gs:// and az:// need, and the key that objects in S3 are encrypted with (SSE-C).
    options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    # Sent with every request: keys that objects are encrypted with, an Authorization for a server.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    # Who the caller is where `credentials` change over time, such as the name of a role or of a session.
    principal: str = field(default="", repr=False)
    # The variables of the user's environment that the Loader heeds: proxies, and where a place gives credentials.
    environment: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    # Makes fresh credentials, in the user's process only.
    refresh: Callable[[], Credentials] | None = field(default=None, repr=False, compare=False)
    # An fsspec filesystem and the path in it: read by a thread of the user's process, never by the Loader.
    filesystem: Any = field(default=None, repr=False, compare=False)
    path: str = field(default="", repr=False, compare=False)

    @property
    def display(self) -> str:
        """The URL, which holds no secret."""
        return str(self.url)

    @property
    def identity(self) -> str:
        """Equal for two specs that read the same store as the same caller: only these may share bytes."""
        caller = self.principal or (self.credentials and f"{self.credentials.key}\0{self.credentials.secret}") or ""
        import hashlib  # brings all of OpenSSL along

        given = [sorted(self.options.items()), sorted(self.headers.items()), self.url.query]
        if any(given):
            caller += f"\0{self.anonymous}\0{given}"
        digest = hashlib.sha256(caller.encode()).hexdigest()[:16]
        kind = "anonymous" if self.anonymous and not any(given) else digest
        return f"{self.url.scheme} {self.endpoint or self.region or ''} {self.url.bucket} {kind}"

    def to_message(self) -> Message:
        message = {name: getattr(self, name) for name in _PLAIN}
        message["url"] = list(astuple(self.url))
        message["credentials"] = self.credentials.to_message() if self.credentials else None
        return message

    @staticmethod
    def from_message(message: Message) -> SourceSpec:
        plain = {name: message[name] for name in _PLAIN}
        credentials = message["credentials"]
        return SourceSpec(
            url=URL(*message["url"]),
            credentials=Credentials.from_message(credentials) if credentials else None,
            **plain,
        )


_PLAIN = (
    "region",
    "endpoint",
    "path_style",
    "anonymous",
    "ca_bundle",
    "verify_tls",
    "request_payer",
    "fips",
    "dualstack",
    "options",
    "headers",
    "principal",
    "environment",
)


class Source(Protocol):
    """Where bytes come from."""

    def list(self) -> Listing:
        """Return the objects of the URL; raises NotFound when there is none."""
        ...

    def read(self, entry: Object, start: int, end: int) -> Iterable[Any]:
        """Return buffers of the bytes from `start` to `end` (exclusive) of the version that was listed.

        Raises, here or while they are taken, SourceUnavailable where trying again may help, ObjectChanged when that
        version is gone.
        """
        ...

    def checksum(self, entry: Object) -> Checksum:
        """Return the checksum of the version that was listed: the manifest's, or what the store says.

        Raises InvalidOption where there is none, and as `read` does.
        """
        ...
