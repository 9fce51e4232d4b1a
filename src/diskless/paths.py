"""Mount: a URL made visible as a path. `mount` and `prefetch` are the two ways to ask for one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from diskless.errors import MountPathError
from diskless.forks import LOCK
from diskless.terms import Terms, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from diskless.errors import DisklessError
    from diskless.events import EventFunction
    from diskless.job import Job
    from diskless.progress import Progress
    from diskless.stats import Stats

# The Mounts that are open. Guarded by LOCK.
_open: list[Mount] = []


class Mount:
    """A URL at a path, until `close`. Made by `mount`; a context manager that yields the path.

    A forked child has the parent's Mounts as they were: it reads them, and closing them there changes nothing in the
    parent. Files that are open or mapped when a Mount closes go on working.
    """

    def __init__(self, job: Job, path: str) -> None:
        self._job = job
        self._files = job.files
        self._path = path
        self._closed = False

    @property
    def path(self) -> str:
        """The absolute path: a directory for a prefix, a file for the URL of one object."""
        return self._path

    @property
    def url(self) -> str:
        """The URL that is mounted."""
        return self._job.url

    @property
    def stats(self) -> Stats:
        """How many files and bytes there are, what was fetched for them, how fast, and how long it took."""
        return self._job.stats

    @property
    def closed(self) -> bool:
        """Whether the path is gone."""
        return self._closed

    @property
    def refusals(self) -> dict[str, DisklessError]:
        """Why files of a lazy Mount could not be opened, by their path below the Mount's, until an open succeeds."""
        return dict(self._job.filling.refusals)

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when every byte is in RAM: at once where it was loaded eagerly.

        What a lazy Mount has not fetched is fetched now, and nothing of it is dropped from now on.

        Raises BudgetExceeded where that does not fit, TimeoutError after `timeout_s` seconds (the load goes on), or the
        load's own error.
        """
        self._job.wait(timeout_s)

    def shows(self, job: Job) -> bool:
        """Whether it shows the one object of a job, in the version that the job has, as far as its store tells them."""
        known = job.version is not None and job.version == self._job.version
        return known or self._files.get("") is job.files.get("")

    def _wait_for_times(self) -> None:
        """Return when no file is being written any more, which changes its time; those of a lazy Mount are dated."""
        if not self._job.lazy:
            self._job.wait()

    def close(self) -> None:
        """Take the path away and, unless others hold them, free its bytes. Closing twice does nothing.

        Ctrl-C meanwhile is raised when that is done: a ``with`` statement does not close again.
        """
        try:
            self._hide()
        finally:
            self._job.leave()

    def _hide(self) -> None:
        with LOCK:
            if self._closed:
                return
            self._closed = True
            try:
                self._job.store.backing.hide(self._path, self._files)
            finally:
                self._job.mounts -= 1
                if self._job.mounts == 0:
                    self._job.held = False
                if self in _open:
                    _open.remove(self)

    def __enter__(self) -> str:
        return self._path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __fspath__(self) -> str:
        return self._path

    def __repr__(self) -> str:
        return f"<diskless.Mount {self.url} at {self._path}{' closed' if self._closed else ''}>"


def mount(
    url: str,
    *,
    at: str | os.PathLike[str] | None = None,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    load: str = "eager",
    verify: bool = False,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    fs: object | None = None,
    backing: str = "auto",
    budget: int | str | None = None,
    budget_timeout_s: float = 0.0,
    progress: Progress = None,
    on_event: EventFunction | None = None,
) -> Mount:
    """Load `url` into RAM and make it visible as a path to everything in this process.

    Args:
        url: ``s3://bucket/prefix`` (gives a directory) or ``s3://bucket/key`` of one object (gives a file); the same
            with ``gs://``, ``az://`` and ``abfs://``; ``https://host/path`` of one object, signed or not; ``file:///path``;
            or any other URL that fsspec reads, such as ``hf://``, ``sftp://`` or ``zip::s3://bucket/archive.zip``.
            ``?versionId=…`` names one version of one object in S3.
        at: an absolute path (``~`` is expanded) to show it at, instead of ``/diskless/s3/bucket/prefix``. What the
            disk has there is hidden while the Mount is open. Needs the Tree.
        allow_patterns, ignore_patterns: load only, or leave out, the objects whose path below the URL matches; the
            words of `huggingface_hub.snapshot_download`.
        load: ``"eager"`` returns when every byte is in RAM. ``"background"`` returns when the names and sizes are
            known: who opens a file that is not complete waits for it, in Python and in native code, and it is fetched
            next. Where a file does not come the open fails with EIO, and `Mount.wait` raises the reason. ``"lazy"``
            also returns then, and fetches a file when it is first opened. When memory is short, files that nobody has
            open or mapped are dropped, those first that were not read for longest, and come back on the next open.
            Where a file cannot be had the open fails with EIO, `Mount.refusals` has the reason, and the next open tries
            again. On a Directory, for a filesystem of fsspec, and where no Loader process can be started, both are
            ``"eager"``, and a warning says so.
        verify: True compares every object with the checksum that the store has of it (CRC64NVME, CRC32C, CRC32, SHA-1,
            SHA-256, of the whole or of its parts), or with the MD5 that the ETag is of an object that was uploaded in
            one piece and not encrypted with a key of KMS or of the customer; with a manifest, as `push` writes one,
            with that. Nobody reads a file before it is verified; what was loaded without `verify` is verified when it
            is asked for with it. It costs a request for each object (none with a manifest) and the CPU time of the
            digest: of a CRC hardly any.
        session: a `boto3.Session` whose credentials are used (and renewed).
        storage_options: options as s3fs takes them (``key``, ``secret``, ``token``, ``anon``, ``profile``,
            ``endpoint_url``, …), gcsfs, adlfs, or the filesystem of the URL. What only that filesystem understands is
            read through it, which is slower, and a warning says so.
        fs: an fsspec filesystem of yours. One of s3fs, gcsfs, adlfs, HTTP or the disk only says how to reach the store
            and is translated as `storage_options` are; others are read by a thread of this process, always eagerly.
        backing: ``"auto"``, ``"tree"`` or ``"directory:<path>"``; ``"auto"`` asks DISKLESS_BACKING first.
        budget: the most bytes that diskless may hold in this process, such as ``"4GiB"``; without it the control
            group and the machine's available memory are the limit.
        budget_timeout_s: how long to wait, in seconds, for others to give back what they hold, where it does not fit
            now; 0 refuses at once, as does what never fits.
        progress: True for a bar, False for none, a function of (bytes done, bytes in all), or None for a bar when
            stderr is a terminal.
        on_event: a function that is called, in the thread that loads, with each `PartFetched`, `Retried`,
            `FileComplete` and `Dropped` of the load that this call starts; none, where it joins one, or all is in RAM
            already. What it raises is logged, once, and ends nothing.

    Returns:
        The open Mount: use it in a ``with`` statement, which yields the path, or take `.path` and call `.close()`. The
        path has what this call asked for and nothing else. Where a Mount of another selection or version shows there,
        or a larger or smaller one that would mix with it, the path begins with ``/diskless/s3~2``, and so on.

    Raises:
        InvalidURL, InvalidOption, MountPathError: an argument makes no sense.
        NotFound: no such bucket, object or prefix, or no object that the patterns leave.
        CredentialsError, AccessDenied: the store does not let this caller read.
        BudgetExceeded, DescriptorLimit: it would not fit, nor within `budget_timeout_s`; nothing was fetched.
        ObjectChanged, TransferError, SourceUnavailable, LoaderDied: the transfer failed for good.
        ChecksumMismatch: with `verify`, an object was fetched twice and is not what its checksum says. InvalidOption:
            the store has no checksum for one.
        BackingUnavailable: the Backing cannot work on this system.

    Example:
        >>> with diskless.mount("s3://models/bert") as path:  # doctest: +SKIP
        ...     model = AutoModel.from_pretrained(path)
    """
    place = os.fspath(at) if at is not None else None
    # Wrong arguments are refused before anything is asked of the network.
    if isinstance(place, bytes):
        raise MountPathError("at= is a str path, not bytes")
    terms = check(
        url,
        load=load,
        allow_patterns=allow_patterns,
        ignore_patterns=ignore_patterns,
        verify=verify,
        session=session,
        storage_options=storage_options,
        fs=fs,
        backing=backing,
        budget=budget,
        budget_timeout_s=budget_timeout_s,
        progress=progress,
        on_event=on_event,
        at=place,
    )
    early = load != "eager" and _may_show_early(terms)
    lazy = early and load == "lazy"
    job = terms.join(keep=False, lazy=lazy)
    path, mounted = None, None
    try:
        if not lazy:
            job.fetch_all()
        wait = job.wait_for_names if early else job.wait
        wait()
        with LOCK:
            wait()  # it may have failed in between, and holds nothing then
            path = terms.backing.show(job.place, place, job.files)
            job.shown = True
            for file in job.files.values():
                file.visible = True
            mounted = Mount(job, path)
            _open.append(mounted)
            return mounted
    except BaseException:
        if path is None:
            job.release()
        else:  # Ctrl-C has come when it showed already
            (mounted or Mount(job, path)).close()
        raise


def prefetch(
    url: str,
    *,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    fs: object | None = None,
    backing: str = "auto",
    budget: int | str | None = None,
    budget_timeout_s: float = 0.0,
    progress: Progress = None,
    on_event: EventFunction | None = None,
    at: str | os.PathLike[str] | None = None,
    load: str = "eager",
    verify: bool = False,
) -> Job:
    """Begin to load `url` into RAM and return at once; a later `mount` with the same arguments joins the load.

    Takes what `mount` takes (`at` and `load` may differ and are of no effect here). The bytes are held until
    `Job.close`, or until the last Mount that joined closes. An error of the load is raised by `Job.wait` and by the
    `mount` that joins.

    Example:
        >>> job = diskless.prefetch("s3://models/bert")  # doctest: +SKIP
        >>> import torch, transformers                   # doctest: +SKIP
        >>> with diskless.mount("s3://models/bert") as path: ...  # doctest: +SKIP
    """
    terms = check(
        url,
        load=load,
        allow_patterns=allow_patterns,
        ignore_patterns=ignore_patterns,
        verify=verify,
        session=session,
        storage_options=storage_options,
        fs=fs,
        backing=backing,
        budget=budget,
        budget_timeout_s=budget_timeout_s,
        progress=progress,
        on_event=on_event,
    )
    job = terms.join(keep=True)
    try:
        job.fetch_all()
    except BaseException:
        job.close()
        raise
    return job


def mounts() -> list[Mount]:
    """Return the Mounts that are open in this process, oldest first."""
    with LOCK:
        return list(_open)


def _may_show_early(terms: Terms) -> bool:
    """Whether names may be seen before the bytes are there; says so in the log where not."""
    import logging

    from diskless.loader import process

    reason = None
    if terms.backing.name != "tree":
        reason = f"{terms.backing.name} shows complete files only"
    elif terms.spec.filesystem is not None:
        reason = "a filesystem of this process is read by a thread, which could not let in who waits with the GIL held"
    elif not process.can_start():
        reason = "no Loader process can be started here, and a thread could not let in who waits with the GIL held"
    if reason is not None:
        logging.getLogger("diskless").warning("load=%r: loaded eagerly, since %s", terms.load, reason)
    return reason is None
