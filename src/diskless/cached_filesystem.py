"""RamCacheFileSystem: `ramcache::`, a read-through cache in RAM over any filesystem of fsspec."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, NoReturn

import fsspec
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.utils import stringify_path

from diskless import kept
from diskless.errors import BudgetExceeded, InvalidOption, redact
from diskless.forks import LOCK
from diskless.handle import File, lazily
from diskless.job import Job
from diskless.readahead import SMALL_BYTES
from diskless.sources.filesystems import check_in_ram, remade
from diskless.terms import Terms, check, get_ready

# What fsspec itself hands on, or takes out for its own use.
_OF_FSSPEC = frozenset(
    {"fo", "skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths", "asynchronous", "loop"}
    | {"batch_size"}
)
_OF_OTHER_CACHES = {
    "cache_storage": "its copies are in RAM, and have no directory",
    "cache_storage_mode": "its copies are in RAM, and have no directory",
    "cache_mapper": "its copies have no names of their own",
    "cache_check": "it has no list of copies on a disk to look at",
    "compression": "give compression= to open() instead",
}
# One week, as the caches of fsspec have it.
_EXPIRY_S = 604800.0
# Files of which ranges are asked for together: each is a connection to the Loader until it is whole.
_OPEN_AT_ONCE = 32
# Paths whose options were looked at, and need not be again.
_MOST_TERMS = 4096


class RamCacheFileSystem(ChainedFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Reads through another filesystem and keeps what was read in RAM, shared with `mount`, `prefetch` and `open`.

    A reader of a whole file gets it over parallel connections while it reads; who reads a few ranges of a large file
    has those fetched, and no others. What was read is kept until memory is needed, the least recently used first, or
    until `clear_cache`. Versions are never mixed: a file that is replaced between two ranges is ObjectChanged, and the
    next open gives the new one.

    Listings, and all else but reading files, are the other filesystem's. It is read-only.

    Args:
        target_protocol, target_options: the other filesystem, as `fsspec.filesystem` takes it; a URL such as
            ``ramcache::s3://bucket/key`` gives these, with options such as ``s3={"anon": True}``. Those of s3fs, gcsfs
            and adlfs are translated, so that files are read without them; what cannot be is read by them, which is
            slower, and a warning says so.
        fs: an instance of it instead.
        check_files: True asks at each open whether the file is still the one that is kept, which costs a request.
        expiry_time: after so many seconds it is asked as well; None or 0 for never.
        same_names: as other caches take it; of no effect, since files in RAM have the names of the objects.
        verify, backing, budget, budget_timeout_s: as for `mount`. With `verify` no file is given out before all of it
            was compared, and so none in ranges.

    Raises:
        InvalidOption: an option is another cache's, or nobody's.
        InvalidURL: the other filesystem, or one beneath it, is a cache on a disk.
        ValueError: neither or both of `target_protocol` and `fs` are given.
    """

    protocol = "ramcache"
    _strip_tokenize_options = ("fo",)

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        fs: fsspec.AbstractFileSystem | None = None,
        check_files: bool = False,
        expiry_time: float | None = _EXPIRY_S,
        same_names: bool | None = None,
        verify: bool = False,
        backing: str = "auto",
        budget: int | str | None = None,
        budget_timeout_s: float = 0.0,
        **options: Any,
    ) -> None:
        for name in options:
            if name in _OF_OTHER_CACHES:
                raise InvalidOption(f"ramcache:: takes no {name}=: {_OF_OTHER_CACHES[name]}")
            if name not in _OF_FSSPEC:
                raise InvalidOption(
                    f"ramcache:: takes no {name}=; options of the filesystem beneath go to target_options=, or by its "
                    "protocol, such as s3={...}"
                )
        super().__init__(**options)
        if (fs is None) == (target_protocol is None):
            raise ValueError(
                "ramcache:: wants target_protocol= or fs=, and not both: such as ramcache::s3://bucket/key"
            )
        self._given = fs
        self._made = fs
        self._pid = os.getpid()  # of the process that these, and the options, are of
        known: Any = fs.protocol if fs is not None else target_protocol
        self.target_protocol = str(known if isinstance(known, str) else known[0])
        self.target_options = dict(target_options or {})
        self._check_files = check_files
        self._expiry_s = expiry_time
        self._load_options: dict[str, Any] = {
            "verify": verify,
            "backing": backing,
            "budget": budget,
            "budget_timeout_s": budget_timeout_s,
            "progress": False,
        }
        self._terms: dict[str, Terms] = {}
        self._jobs: weakref.WeakSet[Any] = weakref.WeakSet()  # that were kept for this one; guarded by LOCK
        beneath = type(fs) if fs is not None else fsspec.get_filesystem_class(self.target_protocol)
        check_in_ram(fs, target_protocol=target_protocol, target_options=target_options)

        def strip(path: Any) -> Any:
            if isinstance(path, list):
                return [strip(each) for each in path]
            return beneath._strip_protocol(stringify_path(path).removeprefix("ramcache://").removeprefix("ramcache::"))

        # Methods of each instance, since each has another target; who asks the class alone gets fsspec's own.
        setattr(self, "_strip_protocol", strip)  # noqa: B010  # to a checker of types they are the class's
        setattr(self, "_parent", lambda path: str(self.fs._parent(strip(path))))  # noqa: B010  # as above

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The filesystem beneath; in a forked child one of its own, since many do not survive a fork."""
        self._take_over()
        if self._made is None:
            self._made = fsspec.filesystem(self.target_protocol, **self.target_options)
        return self._made

    def _take_over(self) -> None:
        """In a forked child: let go of all that the parent's filesystems are in."""
        if self._pid == os.getpid():
            return
        self._made = self._given = remade(self._given)
        self.target_options = remade(self.target_options)
        self._terms = {}
        self._pid = os.getpid()

    @property
    def fsid(self) -> str:
        return f"ramcache-{self.fs.fsid}"

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        found: list[Any] = self.fs.ls(self._strip_protocol(path), detail, **kwargs)
        return found

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        get_ready()  # who asks for a file's size is about to read it
        found: dict[str, Any] = self.fs.info(self._strip_protocol(path), **kwargs)
        return found

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return self.fs.find(self._strip_protocol(path), *args, **kwargs)

    def exists(self, path: str, **kwargs: Any) -> bool:
        return bool(self.fs.exists(self._strip_protocol(path), **kwargs))

    def created(self, path: str) -> Any:
        return self.fs.created(self._strip_protocol(path))

    def modified(self, path: str) -> Any:
        return self.fs.modified(self._strip_protocol(path))

    def checksum(self, path: str) -> Any:
        return self.fs.checksum(self._strip_protocol(path))

    def ukey(self, path: str) -> Any:
        return self.fs.ukey(self._strip_protocol(path))

    def sign(self, path: str, *args: Any, **kwargs: Any) -> str:
        return str(self.fs.sign(self._strip_protocol(path), *args, **kwargs))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget listings. What is kept of files stays: see `clear_cache`."""
        self.fs.invalidate_cache(path)

    def unstrip_protocol(self, name: str) -> str:
        return str(self.fs.unstrip_protocol(name))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> File:
        kind = mode.replace("b", "", 1).replace("+", "", 1)
        if kind not in ("r", "w", "x", "a"):
            raise ValueError(f"mode={mode!r:.50} makes no sense: ramcache:: reads with 'rb', or with 'r' for text")
        if kind != "r" or "+" in mode:
            self._read_only(path)
        path = self._strip_protocol(path)
        terms = self._terms_of(path)
        self._set_aside_if_stale(terms)
        file = lazily(terms, self._url(path), {**self._load_options, **self._access()}, File, kept=True)
        job = file.job
        kept.keep(job)
        with LOCK:
            self._jobs.add(job)
        if file.size <= SMALL_BYTES:
            with contextlib.suppress(BudgetExceeded):  # then what is read is fetched, as of a large one
                job.fetch_all()
        return file

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        with self._open(path) as file:
            return _range(file, start, end)

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Sequence[int | None] | int | None,
        ends: Sequence[int | None] | int | None,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Return the bytes of many ranges, which are all asked for before the first is waited for."""
        begins = starts if isinstance(starts, Iterable) else [starts] * len(paths)
        untils = ends if isinstance(ends, Iterable) else [ends] * len(paths)
        if not len(paths) == len(begins) == len(untils):
            raise ValueError(f"{len(paths)} paths, {len(begins)} starts and {len(untils)} ends are not equally many")
        found: list[Any] = []
        names: set[str] = set()
        group: list[tuple[str, int | None, int | None]] = []
        for request in zip(paths, begins, untils, strict=True):
            if request[0] not in names and len(names) == _OPEN_AT_ONCE:
                found += self._cat_group(group, on_error)
                names, group = set(), []
            names.add(request[0])
            group.append(request)
        return found + self._cat_group(group, on_error)

    def _cat_group(self, requests: Sequence[tuple[str, int | None, int | None]], on_error: str) -> list[Any]:
        files: dict[str, File | Exception] = {}
        found: list[Any] = []
        try:
            for path, start, end in requests:
                try:
                    file = files[path] if path in files else files.setdefault(path, self._open(path))
                    if isinstance(file, File):
                        file.ask(*_within(file.size, start, end))
                except Exception as error:
                    files.setdefault(path, error)
            for path, start, end in requests:
                try:
                    found.append(_range(files[path], start, end))
                except Exception as error:
                    if on_error == "raise":
                        raise
                    found.append(error)
        finally:
            for file in files.values():
                if isinstance(file, File):
                    file.close()
        return found

    def clear_cache(self) -> None:
        """Let go of all that was kept for this filesystem; what is open stays until it is closed."""
        with LOCK:
            jobs, self._jobs = list(self._jobs), weakref.WeakSet()
        kept.drop_all(jobs)

    def pop_from_cache(self, path: str) -> None:
        """Let go of what is kept of one file."""
        held = kept.find(self._terms_of(self._strip_protocol(path)).request)
        if held is not None:
            kept.drop_all([held])

    def _read_only(self, *arguments: Any, **named: Any) -> NoReturn:
        shown = arguments[0] if arguments else next(iter(named.values()), "")
        raise OSError(
            errno.EROFS, f"ramcache:: only reads: write through {self.target_protocol}:// itself", redact(str(shown))
        )

    # All that changes something.
    mkdir = makedirs = rmdir = rm = rm_file = _rm = cp_file = mv = touch = pipe_file = put_file = _read_only

    def _set_aside_if_stale(self, terms: Terms) -> None:
        """Where it is time to, ask the store whether it has the version that is in RAM still, for whomever."""
        with LOCK:
            job = Job.joinable(terms.request)
        expired = (
            job is not None and bool(self._expiry_s) and time.monotonic() - job.listed_at_s > (self._expiry_s or 0)
        )
        if job is not None and (self._check_files or expired) and not job.is_current():
            job.set_aside()
            kept.drop_all([job])

    def _terms_of(self, path: str) -> Terms:
        self._take_over()
        terms = self._terms.get(path)
        if terms is None:
            if len(self._terms) >= _MOST_TERMS:
                self._terms.clear()
            terms = self._terms[path] = check(self._url(path), **self._load_options, **self._access())
        return terms

    def _url(self, path: str) -> str:
        return path if "://" in path else f"{self.target_protocol}://{path}"

    def _access(self) -> dict[str, Any]:
        """Return how `mount` is told of the filesystem beneath."""
        self._take_over()
        if self._given is not None or "target_protocol" in self.target_options or "fo" in self.target_options:
            return {"fs": self.fs}
        return {"storage_options": self.target_options}


def _range(file: File | Exception, start: int | None, end: int | None) -> bytes:
    if isinstance(file, Exception):
        raise file
    return file.read_at(*_within(file.size, start, end))


def _within(size_bytes: int, start: int | None, end: int | None) -> tuple[int, int]:
    """Return a range of a file as fsspec gives it: without a start or an end, or counted from the end."""
    first, last = index(start or 0), size_bytes if end is None else index(end)  # numpy's become Python's
    return max(0, first + size_bytes if first < 0 else first), last + size_bytes if last < 0 else last
