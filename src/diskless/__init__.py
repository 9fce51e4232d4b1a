"""Models from S3 straight into RAM, readable by any library, without a disk."""

from __future__ import annotations

import importlib

from diskless.forks import LOCK

TYPE_CHECKING = False  # as typing has it, which takes longer to import than all of this
if TYPE_CHECKING:
    from diskless.caches.library_caches import Cache, CachedFile, cache
    from diskless.errors import (
        AccessDenied,
        AlreadyExists,
        BackingUnavailable,
        BudgetExceeded,
        Cancelled,
        ChecksumMismatch,
        CredentialsError,
        DescriptorLimit,
        DisklessError,
        InvalidOption,
        InvalidURL,
        IsAPrefix,
        LoaderDied,
        MissingDependency,
        MountPathError,
        NotFound,
        ObjectChanged,
        SourceUnavailable,
        TransferError,
    )
    from diskless.events import Dropped, Event, FileComplete, PartFetched, Retried
    from diskless.handle import File, PathFile, open
    from diskless.job import Job
    from diskless.paths import Mount, mount, mounts, prefetch
    from diskless.scratch_directory import Scratch, scratch
    from diskless.stats import Stats
    from diskless.upload import Pushed, push
    from diskless.upload_file import UploadFile
    from diskless.usage import Usage, usage

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "BackingUnavailable",
    "BudgetExceeded",
    "Cache",
    "CachedFile",
    "Cancelled",
    "ChecksumMismatch",
    "CredentialsError",
    "DescriptorLimit",
    "DisklessError",
    "Dropped",
    "Event",
    "File",
    "FileComplete",
    "InvalidOption",
    "InvalidURL",
    "IsAPrefix",
    "Job",
    "LoaderDied",
    "MissingDependency",
    "Mount",
    "MountPathError",
    "NotFound",
    "ObjectChanged",
    "PartFetched",
    "PathFile",
    "Pushed",
    "Retried",
    "Scratch",
    "SourceUnavailable",
    "Stats",
    "TransferError",
    "UploadFile",
    "Usage",
    "cache",
    "mount",
    "mounts",
    "open",
    "prefetch",
    "push",
    "scratch",
    "usage",
]
__version__ = "0.1.0"
# Where what is not an error is.
_MODULES = {
    "Cache": "caches.library_caches",
    "CachedFile": "caches.library_caches",
    "Dropped": "events",
    "Event": "events",
    "File": "handle",
    "FileComplete": "events",
    "Job": "job",
    "Mount": "paths",
    "PartFetched": "events",
    "PathFile": "handle",
    "Pushed": "upload",
    "Retried": "events",
    "Scratch": "scratch_directory",
    "Stats": "stats",
    "UploadFile": "upload_file",
    "Usage": "usage",
    "cache": "caches.library_caches",
    "mount": "paths",
    "mounts": "paths",
    "open": "handle",
    "prefetch": "paths",
    "push": "upload",
    "scratch": "scratch_directory",
    "usage": "usage",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that importing diskless costs a program next to nothing.

    Under LOCK, for the forks: see `paths`.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with LOCK:
        module = importlib.import_module(f"diskless.{_MODULES.get(name, 'errors')}")
    globals()[name] = getattr(module, name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
