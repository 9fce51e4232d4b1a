"""UploadFile: a file in RAM that is written, and uploaded as one object when it is closed."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn

from diskless.errors import AlreadyExists, InvalidURL, NotFound
from diskless.forks import LOCK
from diskless.progress import Progress
from diskless.ram.backing import choose
from diskless.ram.stream import open_unnamed
from diskless.sources import SourceSpec, resolve
from diskless.upload import push

_log = logging.getLogger("diskless")


class UploadFile(io.BufferedRandom):
    """An object that is written; made by `diskless.open`. What was written can be read back before it is closed.

    It is uploaded by `close` alone. An exception in its ``with`` block, an interpreter that ends, or nobody's closing
    it uploads nothing. Where the upload fails, `close` raises and the file stays open: closing it again tries again.
    What wraps it and closes it, as an `io.TextIOWrapper` does, may do so for an exception: the ``with`` is to be its.
    """

    _made = False
    _in_block = False
    _handled: BaseException | None = None  # when its block began

    def __init__(
        self,
        url: str,
        *,
        exclusive: bool,
        session: object | None,
        storage_options: Mapping[str, object] | None,
        backing: str,
        progress: Progress,
    ) -> None:
        spec = resolve(url, session=session, storage_options=storage_options)
        self.url = spec.display
        if spec.url.scheme != "s3":
            raise InvalidURL(f"{self.url}: only objects in S3 are written; mount a scratch and copy from there")
        if not spec.url.key or spec.url.key.endswith("/"):
            raise InvalidURL(f"{self.url} names no object: give its whole key")
        self._target = url
        self._exclusive = exclusive
        self._session, self._storage_options = session, storage_options
        self._progress = progress
        self._pid = os.getpid()
        if exclusive:
            self._check_free(spec)
        with LOCK:
            root = choose(backing).root()
        super().__init__(open_unnamed(root))
        self._made = True

    def _check_free(self, spec: SourceSpec) -> None:
        """Raise AlreadyExists where the upload would be refused later."""
        from diskless.loader import client

        try:
            with client.Job(spec) as asking:
                taken = asking.list().is_object
        except NotFound:
            return
        if taken:
            raise AlreadyExists(f"{self.url} exists, and mode='x' writes only what does not: take mode='wb'")

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    @property
    def inherited(self) -> bool:
        """Whether a process opened it that this one was forked from, and which it is to be uploaded by."""
        return os.getpid() != self._pid

    def close(self) -> None:
        """Upload what was written, and let go of it. Closing twice does nothing.

        Raises what `push` raises, and then stays open. In a forked child of the process that opened it nothing is
        uploaded. While an exception is handled within its ``with`` block it only flushes, and stays open: the end of
        the block uploads, or does not.
        """
        if self.closed:
            return
        if not self.inherited:
            self.flush()
            if self._in_block and sys.exc_info()[1] is not self._handled:
                return  # who closes it does so for an exception, perhaps: the end of the block sees whether it comes
            push(
                f"/proc/self/fd/{self.fileno()}",
                self._target,
                session=self._session,
                storage_options=self._storage_options,
                overwrite=not self._exclusive,
                progress=self._progress,
            )
        self.discard()

    def discard(self) -> None:
        """Close the file, and upload nothing."""
        if not self.closed and self.inherited:
            # What the parent had not written yet is its to write, into the file that both have.
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.fileno(), inheritable=False)
        super().close()

    def detach(self) -> NoReturn:
        """Refuse: what is beneath knows nothing of the object."""
        raise io.UnsupportedOperation(f"{self.url} cannot be detached from what uploads it")

    def __enter__(self) -> UploadFile:
        self._in_block, self._handled = True, sys.exc_info()[1]
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_block, self._handled = False, None
        if error is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        if self._made and not self.closed:
            told = f"{self.url} was never closed, and is not uploaded"
            _log.warning("%s", told)
            warnings.warn(told, ResourceWarning, 2, source=self)
            self.discard()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{self.url} is being written by this process, and can be by no other one")
