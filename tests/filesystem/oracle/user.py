"""User: who does the operations. An ordinary one comes back as root between examples, by the saved user id."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


class User:
    """Root, or an ordinary user with one group besides its own."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.groups = [] if uid == 0 else [100]
        self.able = os.getuid() == 0 and uid != 0

    def become(self) -> None:
        """Be that user: real, effective and file system ids, and without root's capabilities."""
        os.umask(0o022)
        if self.able:
            os.setgroups(self.groups)
            os.setresgid(self.uid, self.uid, 0)
            os.setresuid(self.uid, self.uid, 0)

    def leave(self) -> None:
        """Be root again, if that is where this process came from."""
        os.umask(0o022)
        if self.able:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups([])

    @contextlib.contextmanager
    def as_root(self) -> Iterator[None]:
        """For looking at what the user may not see. The ids that count for files are the effective ones."""
        if not self.able:
            yield
            return
        os.seteuid(0)
        try:
            yield
        finally:
            os.seteuid(self.uid)
