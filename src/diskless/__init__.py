"""Models from S3 straight into RAM, readable by any library, without a disk."""

from diskless.errors import (
    AccessDenied,
    BackingUnavailable,
    BudgetExceeded,
    Cancelled,
    CredentialsError,
    DescriptorLimit,
    DisklessError,
    InvalidOption,
    InvalidURL,
    LoaderDied,
    MissingDependency,
    MountPathError,
    NotFound,
    ObjectChanged,
    SourceUnavailable,
    TransferError,
)
from diskless.job import Job, Stats
from diskless.mount import Mount, mount, mounts, prefetch

__all__ = [
    "AccessDenied",
    "BackingUnavailable",
    "BudgetExceeded",
    "Cancelled",
    "CredentialsError",
    "DescriptorLimit",
    "DisklessError",
    "InvalidOption",
    "InvalidURL",
    "Job",
    "LoaderDied",
    "MissingDependency",
    "Mount",
    "MountPathError",
    "NotFound",
    "ObjectChanged",
    "SourceUnavailable",
    "Stats",
    "TransferError",
    "mount",
    "mounts",
    "prefetch",
]
__version__ = "0.1.0"
