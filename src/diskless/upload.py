"""push: uploads a file or a directory, of the Tree or a real one, so that readers see all of it or nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diskless.errors import AccessDenied, AlreadyExists, DisklessError, InvalidOption, ObjectChanged

if TYPE_CHECKING:
    from diskless.local_files import LocalFile
    from diskless.parallel_upload import ParallelUpload, Sent
    from diskless.progress import Display, Progress
    from diskless.sources import SourceSpec
    from diskless.sources.s3_upload import Body, S3Upload

_log = logging.getLogger("diskless")
_SIGNED_ONLY = (
    "no checksum, only a signature of its SHA-256; the manifest of a directory keeps checksums for verify=True"
)


@dataclass(frozen=True)
class Pushed:
    """What a push has done."""

    url: str
    files: int
    size_bytes: int
    seconds: float


def push(
    path: str | os.PathLike[str],
    url: str,
    *,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    overwrite: bool = False,
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    progress: Progress = None,
) -> Pushed:
    """Upload a file or a directory: of a scratch or a Mount, by its path, or a real one.

    Files go in parts of 8 to 64 MiB, eight at once, from where they are through buffers of half a MiB; each part and
    each whole object with a checksum that the store compares and keeps (CRC64NVME; CRC32 without the native library,
    or where the store refuses the first; none, with a warning, where it refuses both).
    A directory gets a manifest, `diskless-manifest.json`, last: until then a reader with diskless gets an error, and
    after that sees just these files, so none of a push that died. A single file appears when it is complete, as every
    object does. Symbolic links are followed; empty directories are left out, as is a manifest that was downloaded.

    When something fails, Ctrl-C too, the multipart uploads under way are aborted. Those of a process that was killed
    are aborted by the next push of the same files to the same place; a lifecycle rule of the bucket
    (AbortIncompleteMultipartUpload) removes those that nobody pushes again.

    Args:
        path: of a file or a directory; a `Mount` or a `Scratch`.
        url: ``s3://bucket/prefix`` for a directory; for a file ``s3://bucket/key``, or ``s3://bucket/prefix/`` to
            keep its name.
        session, storage_options: as for `mount`.
        overwrite: True replaces what is there. Other objects below the prefix stay, and do not show.
        allow_patterns, ignore_patterns: of a directory, only, or without, the files whose path below it matches.
        progress: as for `mount`.

    Returns:
        How much was uploaded where.

    Raises:
        AlreadyExists: something is at `url`, or came there at the same moment, and `overwrite` is not set.
        NotFound: nothing is at `path`, or nothing that the patterns leave, or there is no such bucket.
        InvalidURL, InvalidOption: an argument makes no sense, or a file cannot be an object.
        ObjectChanged: a file changed meanwhile, or another push to the same prefix began.
        CredentialsError, AccessDenied: the store does not let this caller write.
        SourceUnavailable, TransferError: the store could not be reached, or failed, again and again.

    Example:
        >>> with diskless.scratch() as path:  # doctest: +SKIP
        ...     model.save_pretrained(path)
        ...     diskless.push(path, "s3://models/tuned")
    """
    from diskless import sources
    from diskless.paths import Mount
    from diskless.progress import display
    from diskless.sources.s3_upload import S3Upload

    local = os.fspath(path)
    if not isinstance(local, str):
        raise InvalidOption("path= is a str path, not bytes")
    if not isinstance(overwrite, bool):
        raise InvalidOption(f"overwrite= is True or False, not {overwrite!r:.50}")
    spec = sources.resolve(url, session=session, storage_options=storage_options)
    if isinstance(path, Mount):
        path._wait_for_times()
    show = display(progress, f"{local} to {spec.display}")
    started = time.monotonic()
    try:
        files = _find(local, allow_patterns, ignore_patterns)
        stop = threading.Event()
        upload = S3Upload(spec, stop)
        try:
            _Push(spec, upload, files, stop, show).run(overwrite=overwrite)
        finally:
            upload.close()
    finally:
        show.close()
    size_bytes = sum(file.size_bytes for file in files)
    return Pushed(spec.display, len(files), size_bytes, time.monotonic() - started)


def _find(
    local: str, allow_patterns: str | Sequence[str] | None, ignore_patterns: str | Sequence[str] | None
) -> list[LocalFile]:
    """Return the files to be pushed, that of a path to one with an empty name."""
    from diskless import local_files, selection
    from diskless.errors import NotFound
    from diskless.sources import Listing, Object, manifest

    allowed = selection.patterns("allow_patterns", allow_patterns)
    ignored = selection.patterns("ignore_patterns", ignore_patterns)
    files = {file.name: file for file in local_files.find(local, allowed, ignored)}
    if "" in files:
        return list(files.values())
    if files.pop(manifest.NAME, None) is not None:
        _log.info("%s: its %s is left out: the push writes one", local, manifest.NAME)
    if not files:
        raise NotFound(f"nothing to push at {local}: the directory holds no file")
    entries = [Object(file.path, file.name, file.size_bytes, None, None, 0) for file in files.values()]
    return [files[entry.path] for entry in selection.select(Listing(entries, [], False), allowed, ignored, local)]


class _Push:
    """One push to a store."""

    def __init__(
        self, spec: SourceSpec, upload: S3Upload, files: list[LocalFile], stop: threading.Event, show: Display
    ) -> None:
        self._spec = spec
        self._upload = upload
        self._show = show
        self._files = files
        self._of_directory = files[0].name != ""
        key = spec.url.key
        if self._of_directory:
            self._prefix = key.rstrip("/") + "/" if key else ""
            self._keys = [self._prefix + file.name for file in files]
        else:
            self._keys = [key + os.path.basename(files[0].path) if not key or key.endswith("/") else key]
            self._prefix = self._keys[0]
        self._stop = stop
        self._sending: ParallelUpload
        self._began = False
        self._claim: str | None = None  # the ETag of the manifest that says so

    def run(self, *, overwrite: bool) -> None:
        from diskless.sources.s3_upload import PreconditionFailed

        self._look(overwrite=overwrite)
        try:
            sent = self._send({} if overwrite else {"if-none-match": "*"})
            for file in self._files:
                file.check()
            if self._of_directory:
                self._put_manifest(self._written(sent), {"if-match": self._claim} if self._claim else {})
        except BaseException as error:
            left = self._give_up()
            if isinstance(error, PreconditionFailed):
                raise self._overtaken() from None
            if isinstance(error, DisklessError):
                raise type(error)(f"{error}{left}") from None
            _log.warning("the push to %s did not end%s", self._spec.display, left)
            raise

    def _send(self, conditions: Mapping[str, str]) -> list[Sent]:
        """Send the files, with the best checksum that the store knows; with none where it refuses them all.

        The `conditions` are those of the manifest that says that the push is under way, or of the single file.
        """
        from diskless.parallel_upload import ParallelUpload, algorithms
        from diskless.sources import manifest
        from diskless.sources.s3_upload import ChecksumRefused

        pairs = list(zip(self._files, self._keys, strict=True))
        total_bytes = sum(file.size_bytes for file in self._files)
        names = algorithms()
        for algorithm, instead in zip([*names, names[0]], [*names[1:], None, None], strict=True):
            of_files = {} if self._of_directory else conditions
            self._sending = ParallelUpload(self._upload, pairs, self._stop, algorithm, of_files)
            try:
                if self._of_directory and not self._began:
                    self._claim = self._put_manifest(manifest.unfinished(), conditions)
                    self._began = True
                self._abort_left_behind()
                return self._sending.run(lambda done_bytes: self._show.update(done_bytes, total_bytes))
            except ChecksumRefused as error:
                level = logging.INFO if instead else logging.WARNING
                _log.log(level, "%s: all is sent anew with %s", error, instead or _SIGNED_ONLY)
                self._sending.abort()
                self._stop.clear()
                self._upload.sends_checksums = instead is not None
        raise AssertionError("unreachable: a checksum that is not sent is not refused")

    def _overtaken(self) -> DisklessError:
        """Return the error of a push whose condition did not hold: somebody else writes there, too."""
        url = self._spec.display
        if self._began:
            return ObjectChanged(
                f"{url}: another push to it has begun meanwhile: what is there are files of both, which readers may be "
                "refused: push again with overwrite=True when the other has ended"
            )
        return AlreadyExists(
            f"{url}: something else has written there since this push has begun: push elsewhere, or with "
            "overwrite=True when that has ended"
        )

    def _look(self, *, overwrite: bool) -> None:
        """Raise AlreadyExists where the push would replace something unasked, or could not be read back."""
        bucket, url = f"s3://{self._spec.url.bucket}", self._spec.display
        try:
            if self._of_directory and self._prefix:
                keys, _ = self._upload.keys(self._prefix.rstrip("/"))
                if keys[:1] == [self._prefix.rstrip("/")]:
                    raise AlreadyExists(
                        f"{bucket}/{keys[0]} is an object, and would be read in place of a directory of that name: "
                        "remove it, or push to another prefix"
                    )
            keys, more = self._upload.keys(self._prefix)
            if not self._of_directory:
                if self._prefix not in keys:
                    self._refuse_directory(self._prefix + "/", keys, more)
                keys, more = [key for key in keys if key == self._prefix], False
        except AccessDenied:
            if overwrite:  # who may only write
                return
            raise
        if keys and not overwrite:
            names = ", ".join(key.removeprefix(self._prefix) or key for key in keys[:3])
            count = f"{len(keys)}{' objects or more' if more else ' objects' if len(keys) > 1 else ' object'}"
            raise AlreadyExists(
                f"{url} holds {count} already ({names}{', …' if len(keys) > 3 else ''}): push elsewhere, or with "
                "overwrite=True, which replaces what has the same name. A push that died leaves such things, too"
            )

    def _refuse_directory(self, below: str, keys: Sequence[str], more: bool) -> None:
        """Raise AlreadyExists where an object would be read in place of the directory of its name."""
        inside = [key for key in keys if key.startswith(below)]
        if more and not inside:
            inside, _ = self._upload.keys(below)
        if inside:
            url = f"s3://{self._spec.url.bucket}/{below}"
            raise AlreadyExists(
                f"{url} is a directory (with {inside[0].removeprefix(below) or 'nothing in it'}), and an object of its "
                f"name would be read in its place: name a file in it, such as {url}{os.path.basename(self._prefix)}"
            )

    def _abort_left_behind(self) -> None:
        """Abort uploads to the same keys: of a process that died, since nobody else should be writing there."""
        keys = set(self._keys)
        with contextlib.suppress(DisklessError):  # not every caller may, nor every server can
            for key, upload in self._upload.uploads(self._prefix):
                if key in keys:
                    _log.info("%s: a multipart upload that was left behind is aborted", key)
                    self._upload.abort(key, upload)

    def _put_manifest(self, content: bytes, conditions: Mapping[str, str]) -> str | None:
        from diskless.sources import manifest

        return self._upload.put(self._prefix + manifest.NAME, _body(content), conditions)

    def _written(self, sent: Sequence[Sent]) -> bytes:
        from diskless.sources import manifest

        return manifest.written(
            manifest.File(file.name, file.size_bytes, of.checksum.text, of.etag)
            for file, of in zip(self._files, sent, strict=True)
        )

    def _give_up(self) -> str:
        """Abort what is under way; say what is left in the store."""
        kept, left = self._sending.abort(), ""
        if self._began:
            left = (
                f". {self._sending.sent_files} of {len(self._files)} files are at {self._spec.display}, with a "
                "manifest that keeps them from readers: push again with overwrite=True"
            )
        if kept:
            left += (
                f". {len(kept)} multipart uploads could not be aborted (such as {kept[0]}): the next push to this "
                "place aborts them"
            )
        return left


def _body(content: bytes) -> Body:
    import zlib

    from diskless.sources.checksums import Checksum
    from diskless.sources.s3_upload import Body

    return Body.of(content, Checksum("CRC32", zlib.crc32(content).to_bytes(4, "big")))
