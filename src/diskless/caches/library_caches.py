"""Cache: the directories in which libraries keep their models, in RAM, filled from a mirror when files are opened."""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from diskless import native_api as native
from diskless.caches import libraries, written
from diskless.caches.libraries import huggingface
from diskless.caches.place import Place, make_parent, put
from diskless.caches.written import Written
from diskless.errors import InvalidOption, MountPathError
from diskless.forks import LOCK
from diskless.ram.backing import choose
from diskless.ram.budget import parse_size
from diskless.terms import check

if TYPE_CHECKING:
    from types import TracebackType

    from diskless.caches.hub_cache import HubCache
    from diskless.caches.mirror import Mirror
    from diskless.errors import DisklessError
    from diskless.ram.backing import Backing
    from diskless.ram.file import RamFile

_log = logging.getLogger("diskless")
# As such directories are: NLTK reads nothing that others may write.
_MODE = 0o755
# What caches have on a disk beside their files, and nobody reads: in RAM it would take descriptors.
_NOT_SHOWN = (".locks/*", "*/blobs/*.incomplete")
# The caches that are open, by the directories that they cover. Guarded by LOCK.
_open: dict[str, Cache] = {}


class CachedFile(NamedTuple):
    """A file in a cache: `held_bytes` of it are in RAM, and `used_at` is when it was last read, in seconds since 1970.

    `url` is where it came from; None where a library has written it, such as what it fetched from the Hub.
    """

    path: str
    size_bytes: int
    held_bytes: int
    url: str | None
    used_at: float


class Cache:
    """Caches of libraries in RAM, until `close`. Made by `cache`; a context manager."""

    def __init__(
        self,
        backing: Backing,
        mirror: Mirror | None,
        budget_bytes: int | None,
        push: Callable[[str, str], object] | None,
    ) -> None:
        self._backing = backing
        self._mirror = mirror
        self._budget_bytes = budget_bytes
        self._push = push  # puts a file into the mirror, where that is wanted
        # Guarded by LOCK: the directories, and the prefixes of the mirror that are in each.
        self._roots: dict[str, list[str]] = {}
        self._hub: HubCache | None = None
        self._tokens: set[str] = set()  # their files in the directories
        self._copied: dict[str, str] = {}  # names in the mirror, by path, of what may be written on
        self._pinned: list[int] = []
        self._flushed: dict[str, tuple[int, int]] = {}  # inodes and times of what is in the mirror now, by path
        self._closed = False

    @property
    def url(self) -> str | None:
        """The mirror, or None."""
        return self._mirror.url if self._mirror is not None else None

    @property
    def directories(self) -> list[str]:
        """The directories that are in RAM now."""
        return list(self._roots)

    @property
    def closed(self) -> bool:
        """Whether the directories are those of the disk again."""
        return self._closed

    @property
    def refusals(self) -> dict[str, DisklessError]:
        """Why files of the mirror could not be opened, by their path in it, until an open succeeds."""
        return dict(self._mirror.refusals) if self._mirror is not None else {}

    def install(self) -> Cache:
        """Keep the caches open until the process ends, and return this. What is to be written back, `flush` writes."""
        return self

    def ls(self) -> list[CachedFile]:
        """Return what is in the caches: all files of the mirror, here or not, and what libraries have written."""
        of_mirror = {} if self._mirror is None else self._mirror.names()
        found = []
        for root in self.directories:
            for path in written.files(root):
                try:
                    status = os.stat(path, follow_symlinks=False)
                except FileNotFoundError:  # removed meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):
                    name = of_mirror.get(status.st_ino, self._copied.get(path))
                    url = f"{self.url}/{name}" if name is not None else None
                    held = status.st_blocks * 512
                    found.append(CachedFile(path, status.st_size, held, url, status.st_atime))
        return sorted(found)

    def flush(self) -> int:
        """Put into the mirror what libraries have written so far, and return how many files that were.

        Each is there whole or not at all, and the name of a revision comes after its files. `close` does this, too,
        where no exception ended the ``with`` block. Call it when no library is fetching: one that writes a file under
        its final name, as CLIP does, has a part of it there until it is done.

        Raises:
            InvalidOption: the cache was opened without ``write_back=True``.
            AccessDenied, CredentialsError, SourceUnavailable, TransferError: the mirror cannot be written.
        """
        if self._push is None or self._mirror is None:
            raise InvalidOption("there is nothing to write to: open the cache with a mirror and write_back=True")
        of_mirror = self._mirror.names()
        count = 0
        for root, prefixes in list(self._roots.items()):
            found: list[Written] = []
            is_hub = self._hub is not None and root in self._hub.directories
            if self._hub is not None and is_hub:
                found += written.of_hub(root, of_mirror, self._hub.not_written_back)
            for prefix in prefixes[:1]:
                found += written.below(root, prefix, of_mirror, self._tokens, with_hub=is_hub)
            for each in found:
                try:
                    told = os.stat(each.path)
                except FileNotFoundError:  # removed meanwhile
                    continue
                if self._flushed.get(each.path) == (told.st_ino, told.st_mtime_ns):
                    continue
                self._push(each.path, f"{self._mirror.url}/{each.name}")
                self._flushed[each.path] = (told.st_ino, told.st_mtime_ns)
                count += 1
        return count

    def prefetch(self, ids: str | Iterable[str]) -> None:
        """Begin to fetch all files of repositories of the mirror, and return at once; who opens one waits for it.

        Args:
            ids: such as ``"org/name"`` or ``"org/name@revision"``; with ``"datasets/"`` before it one of those.

        Raises:
            NotFound: the mirror has no such repository, or not that revision of it.
            BudgetExceeded: they do not fit into RAM together; nothing is fetched.
            InvalidOption: there is no mirror, or `only` leaves out huggingface.
        """
        self._begin(self._files_of(ids))

    def pin(self, ids: str | Iterable[str]) -> None:
        """Fetch all files of repositories, and keep them in RAM until the cache closes, however short memory is.

        Takes and raises what `prefetch` does, and OSError where a file cannot be had: see `refusals`.
        """
        files = self._files_of(ids)
        self._begin(files)
        for name in files:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)  # what is open is not dropped
            with LOCK:
                self._pinned.append(fd)

    def close(self) -> None:
        """Let the disk be seen again; files that are open or mapped go on working. Closing twice does nothing.

        With ``write_back=True`` raises what `flush` does, after all is closed.
        """
        try:
            if self._push is not None and not self._closed:
                self.flush()
        finally:
            self._close()

    def _close(self) -> None:
        with LOCK:
            if self._closed:
                return
            self._closed = True
            roots, self._roots = list(self._roots), {}
            pinned, self._pinned = self._pinned, []
        if self._hub is not None:
            self._hub.close()
        for fd in pinned:
            os.close(fd)
        with LOCK:
            for path in reversed(roots):
                self._backing.remove_scratch(path)
                _open.pop(path, None)
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # what was being written is not whole
            self._close()

    def __repr__(self) -> str:
        return f"<diskless.Cache of {self.url or 'no mirror'}{' closed' if self._closed else ''}>"

    def _show(self, place: Place) -> str:
        """Shadow a directory, and give the mirror's files their names in it."""
        path = os.path.normpath(place.path)
        tokens = {name: _read(name) for name in huggingface.tokens(path)}
        with LOCK:
            owner = _open.get(path)
            if owner is None:
                self._backing.make_scratch(path, self._budget_bytes)
                self._roots[path] = []
                _open[path] = self
            elif owner is not self:
                raise MountPathError(
                    f"{path} is in RAM already, for {owner!r}: close that, or leave the library out with only="
                )
            if place.prefix is not None:
                self._roots[path].append(place.prefix)
        if owner is None:
            os.chmod(path, _MODE)
            self._keep_tokens(tokens)
        if self._mirror is not None and place.prefix is not None:
            for name, file in self._mirror.files.items():
                if name.startswith(place.prefix):
                    put(os.path.join(path, name[len(place.prefix) :]), file)
            for name in place.appended:
                self._let_write(os.path.join(path, name), place.prefix + name)
        return path

    def _let_write(self, path: str, name: str) -> None:
        """Have a copy of a mirror's file in its place, which can be written on."""
        content = _read(path)
        if content is None:
            return
        self._copied[path] = name
        os.unlink(path)
        with open(path, "xb") as file:
            file.write(content)
        told = os.stat(path)
        self._flushed[path] = (told.st_ino, told.st_mtime_ns)

    def _keep_tokens(self, tokens: Mapping[str, bytes | None]) -> None:
        """Let files with tokens be there as before, and never go into the mirror."""
        for name, content in tokens.items():
            self._tokens.add(name)
            if content is not None:
                make_parent(name)
                with open(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                    file.write(content)

    def _show_hub(self, path: str, *, ask: bool, token: str | None) -> None:
        from diskless.caches.hub_cache import HubCache

        directories = [self._show(Place(each)) for each in (path, *huggingface.more_hubs())]
        self._hub = HubCache(directories, self._mirror, ask=ask, token=token)

    @property
    def _shows_any(self) -> bool:
        """Whether anything of the mirror is in a directory."""
        files = self._mirror.files if self._mirror is not None else {}
        prefixes = tuple(prefix for there in self._roots.values() for prefix in there)
        return any(name.startswith(prefixes) for name in files) or (self._hub is not None and self._hub.holds_any)

    def _begin(self, files: Mapping[str, RamFile]) -> None:
        for file in files.values():
            native.gate_ask(file.gate)

    def _files_of(self, ids: str | Iterable[str]) -> dict[str, RamFile]:
        if self._hub is None:
            raise InvalidOption("repositories are fetched beforehand for huggingface, which only= leaves out")
        return self._hub.files_of(ids)


def cache(
    mirror: str | None = None,
    *,
    only: str | Sequence[str] | None = None,
    paths: Mapping[str, str] | None = None,
    prefetch: Sequence[str] = (),
    pin: Sequence[str] = (),
    local_files_only: bool = False,
    write_back: bool = False,
    token: str | None = None,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    budget: int | str | None = None,
    backing: str = "auto",
) -> Cache:
    """Keep the caches of Hugging Face, torch.hub, CLIP, EasyOCR and others in RAM, filled from a mirror in S3.

    Nothing in the calls of the libraries changes, and it does not matter whether they were imported before. What the
    disk has in their directories is hidden, untouched, and back when the cache closes.

    The mirror holds repositories of the Hub, as ``aws s3 sync ~/.cache/huggingface/hub s3://…`` copies them out of a
    cache, or as plain files, ``org/name/…`` or ``org/name/<revision>/…`` (where no file lies right in ``org/name/``).
    What other libraries keep is in folders of their names: ``clip/``, ``easyocr/model/``, ``torch/hub/``, ``whisper/``,
    ``nltk/``, ``keras/models/``, ``tiktoken/``. It is listed once, here; a file is fetched when it is opened.

    The mirror decides: what it holds, branches included, is answered without a request to the Hub, which is asked for
    other repositories, for revisions and files that the mirror lacks, and with ``force_download=True``.

    Args:
        mirror: such as ``s3://bucket/hub``, with the schemes of `mount`; None begins with empty caches.
        only: names of libraries, such as ``["huggingface", "clip"]``; else those that are installed.
        paths: more directories, and what of the mirror is in each: ``{"~/.mylib": "mylib/"}``.
        prefetch: repositories of the mirror to fetch now, as `Cache.prefetch` takes them.
        pin: repositories to fetch now and to keep, as `Cache.pin` takes them.
        local_files_only: True never asks the Hub.
        write_back: True puts into the mirror what the libraries fetched from elsewhere, when the cache closes or
            `Cache.flush` is called.
        token: for the Hub, where the library gives none of its own.
        session, storage_options: as `mount` takes them.
        budget: how many bytes the files of the mirror may take, and what is written to each directory, such as
            ``"4GiB"``. Files of the mirror that nobody has open make room, those first that were not used for longest.
        backing: the Tree is needed.

    Returns:
        The open Cache: use it in a ``with`` statement, or keep it for the whole process with ``.install()``.

    Raises:
        InvalidURL, InvalidOption: an argument makes no sense.
        NotFound: the mirror is empty (with `write_back` that is no error), or has none of what is to be fetched now.
        AlreadyExists: with `write_back`, the mirror was pushed with a manifest, which hides what is written later.
        CredentialsError, AccessDenied, SourceUnavailable: it cannot be listed.
        MountPathError: another cache covers one of the directories already.
        BackingUnavailable: the Tree cannot work here, or files cannot be fetched when they are opened.

    Example:
        >>> with diskless.cache("s3://models/hub"):  # doctest: +SKIP
        ...     model = AutoModel.from_pretrained("org/name")
    """
    for name, given, kind in (
        ("only", only, Iterable),
        ("paths", paths, Mapping),
        ("prefetch", prefetch, Iterable),
        ("pin", pin, Iterable),
    ):
        if given is not None and not isinstance(given, kind):
            raise InvalidOption(f"{name}= is no {type(given).__name__}: see the documentation of diskless.cache")
    names = [only] if isinstance(only, str) else libraries.NAMES if only is None else list(only)
    found = {name: libraries.find(name) for name in names}
    if only is None:
        found = {name: library for name, library in found.items() if libraries.is_installed(library)}
    elif "huggingface" in found and not libraries.is_installed(found["huggingface"]):
        raise InvalidOption("only= names huggingface, and huggingface_hub is not installed")
    places = [Place(os.path.expanduser(path), _prefix(prefix)) for path, prefix in (paths or {}).items()]
    opened_mirror = None
    with LOCK:
        chosen = choose(backing)
    if chosen.name != "tree":
        raise InvalidOption(f"caches need the Tree, and the Backing is {chosen.name}")
    if mirror is not None:
        from diskless.caches.mirror import Mirror

        options = {"session": session, "storage_options": storage_options, "budget": budget, "backing": backing}
        if write_back:
            _check_writable(mirror, session, storage_options)
        terms = check(mirror, load="lazy", ignore_patterns=_NOT_SHOWN, **options)  # type: ignore[arg-type]
        opened_mirror = Mirror(terms, may_be_empty=write_back)
    elif write_back:
        raise InvalidOption("write_back=True needs a mirror to write to")
    push = None
    if write_back:
        from diskless.upload import push as push_any

        push = functools.partial(
            push_any, session=session, storage_options=storage_options, overwrite=True, progress=False
        )
    made = Cache(chosen, opened_mirror, parse_size(budget), push)
    try:
        for name, library in found.items():
            others = library.places()
            if name == "huggingface":
                made._show_hub(others.pop(0).path, ask=not local_files_only, token=token)
            for place in others:
                made._show(place)
        for place in places:
            made._show(place)
        if opened_mirror is not None and opened_mirror.files and not made._shows_any:
            _log.warning(
                "%s has nothing for %s: no repository such as org/name/ or models--org--name/, no folder of a library; "
                "is the prefix one level off?",
                made.url,
                ", ".join(found) or "the paths",
            )
        if prefetch:
            made.prefetch(prefetch)
        if pin:
            made.pin(pin)
    except BaseException:
        made._close()
        raise
    return made


def _check_writable(mirror: str, session: object, storage_options: Mapping[str, object] | None) -> None:
    """Raise what will be said of the mirror when it is written, as far as that can be known before."""
    from diskless.mirroring.bucket import MirrorBucket

    MirrorBucket(mirror, session=session, storage_options=storage_options).close()


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _prefix(prefix: str) -> str:
    if not isinstance(prefix, str) or prefix.startswith("/"):
        raise InvalidOption(f"paths= gives for each directory a prefix in the mirror such as 'mylib/', not {prefix!r}")
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"
