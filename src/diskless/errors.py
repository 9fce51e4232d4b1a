"""Every error diskless raises on purpose.

Each class derives from `DisklessError` and from the builtin that callers already catch. A message says what
happened, where, and what to do next; it never holds a secret (see `redact`).
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BackingUnavailable",
    "BudgetExceeded",
    "Cancelled",
    "ChecksumMismatch",
    "CredentialsError",
    "DescriptorLimit",
    "DisklessError",
    "InvalidOption",
    "InvalidURL",
    "IsAPrefix",
    "LoaderDied",
    "MissingDependency",
    "MountPathError",
    "NotFound",
    "ObjectChanged",
    "SourceUnavailable",
    "TransferError",
]


class DisklessError(Exception):
    """Base of all errors of diskless."""


class InvalidURL(DisklessError, ValueError):
    """The URL cannot be read, or its scheme is not supported."""


class IsAPrefix(InvalidURL, IsADirectoryError):
    """The URL is that of a prefix, and one object was asked for."""


class InvalidOption(DisklessError, ValueError):
    """An argument has a value that makes no sense here."""


class MountPathError(DisklessError, ValueError):
    """`at=` names a place where nothing can be mounted."""


class NotFound(DisklessError, FileNotFoundError):
    """No such bucket, object or prefix."""


class AlreadyExists(DisklessError, FileExistsError):
    """A push would replace what is there, and was not told to."""


class AccessDenied(DisklessError, PermissionError):
    """The store knows who asks and refuses."""


class CredentialsError(DisklessError, PermissionError):
    """No credentials, expired ones, or ones the store does not accept."""


class SourceUnavailable(DisklessError, ConnectionError):
    """The store cannot be reached or answers with a server error; retrying may help."""

    # Whether the store said that there are too many requests.
    asks_for_less = False


class TransferError(DisklessError, OSError):
    """A transfer failed for good: the message names the object, the offset and the last cause."""


class ChecksumMismatch(TransferError):
    """With `verify=True`: what came is not what the store has a checksum of, twice."""


class ObjectChanged(DisklessError, OSError):
    """An object was replaced or deleted while it was being read; bytes of two versions are never mixed."""


class LoaderDied(DisklessError, OSError):
    """The Loader process ended again and again before the transfer was complete."""


class BudgetExceeded(DisklessError, MemoryError):
    """More bytes were asked for than the Budget has left; nothing was fetched."""

    # Whether it would fit if others gave back what they hold.
    may_fit_later = False


class DescriptorLimit(DisklessError, OSError):
    """More files were asked for than this process may hold open descriptors."""


class BackingUnavailable(DisklessError, OSError):
    """The chosen Backing cannot work on this system."""


class MissingDependency(DisklessError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class Cancelled(DisklessError, InterruptedError):
    """The transfer was cancelled by its owner."""


_QUERY_SECRET = (
    r"(?i)((?:X-Amz-(?:Signature|Security-Token|Credential)|Signature|AWSAccessKeyId|sig|token|access_token|api_key)=)"
    r"[^&\s\"'<>]+"
)
_USERINFO = r"(?i)([a-z][a-z0-9+.-]*://)[^/@\s\"'<>]+@"
_ASSIGNED_SECRET = (
    r"(?i)((?:aws_)?(?:secret_?access_?key|session_?token|access_?key_?id|secret|password|authorization|security[-_]token)"
    r"[\"']?\s*[:=]\s*(?:Some\()?[\"']?)(?:Bearer\s+)?[^\s\"',;&)}]+"
)


def again(error: BaseException) -> BaseException:
    """Return an error of the same class and words, so that each who waits raises one with a traceback of its own."""
    return type(error)(*error.args) if isinstance(error, DisklessError) else error


def redact(text: str, *secrets: str | None) -> str:
    """Return `text` without signed query parameters, user names in URLs, assigned secrets, or any of `secrets`."""
    import re  # late: a program that only imports diskless needs none of it

    # The longest first: one may hold another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    text = re.sub(_QUERY_SECRET, r"\1[secret]", text)
    text = re.sub(_USERINFO, r"\1[secret]@", text)
    return re.sub(_ASSIGNED_SECRET, r"\1[secret]", text)
