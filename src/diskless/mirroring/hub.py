"""HubRepository: a repository of the Hub at one commit, its files and their bytes, through huggingface_hub."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from diskless.caches.hub_json import HubFile
from diskless.caches.hub_layout import COMMIT, folder_of, split_id
from diskless.errors import (
    AccessDenied,
    BudgetExceeded,
    DisklessError,
    InvalidOption,
    MissingDependency,
    NotFound,
    SourceUnavailable,
    TransferError,
    redact,
)


class HubRepository:
    """Looks up the commit of a revision, and what files it has.

    Args:
        name: such as ``org/name`` or ``datasets/org/name``, with ``@revision`` after it for another than ``main``.

    Raises:
        InvalidOption: the name is none.
        NotFound, AccessDenied, SourceUnavailable: the Hub has no such thing, does not give it, or cannot be reached.
    """

    def __init__(self, name: str) -> None:
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.hf_api import RepoFile
        except ImportError:
            raise MissingDependency(
                'a copy from the Hub needs huggingface_hub: pip install "diskless[huggingface]"'
            ) from None
        self.kind, self.name, self.revision = split_id(name)
        self.folder = folder_of(self.kind, self.name)
        self._type = self.kind[:-1]
        with translated(name):
            api = HfApi()
            sha = self.revision
            if not COMMIT.fullmatch(sha):
                sha = str(api.repo_info(self.name, repo_type=self._type, revision=self.revision).sha)
            self.commit = sha
            found = api.list_repo_tree(self.name, recursive=True, revision=sha, repo_type=self._type)
            self.files = {
                entry.path: HubFile(entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else None)
                for entry in found
                if isinstance(entry, RepoFile)
            }

    def fetch(self, path: str, cache: str, *, anew: bool = False) -> str:
        """Fetch a file into a cache of huggingface_hub, and return its path there; raises as the class does."""
        from huggingface_hub import hf_hub_download

        with translated(f"{self.name}/{path}"):
            return str(
                hf_hub_download(
                    self.name,
                    path,
                    repo_type=self._type,
                    revision=self.commit,
                    cache_dir=cache,
                    force_download=anew,
                    token=None,
                )
            )


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Make errors of huggingface_hub those of diskless, with one line that says what was asked for."""
    from huggingface_hub import errors

    try:
        yield
    except DisklessError:
        raise
    except Exception as error:
        said = redact(" ".join(str(error).split()))[:300] or type(error).__name__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError) or (isinstance(error, OSError) and status == 403):
            raise AccessDenied(
                f"the Hub does not give {what} to you: ask for access on its page, and set HF_TOKEN: {said}"
            ) from None
        if isinstance(error, errors.RepositoryNotFoundError):
            raise NotFound(f"the Hub has no {what}, or it is private and needs HF_TOKEN: {said}") from None
        if isinstance(error, (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError)):
            raise NotFound(f"the Hub has no {what}: {said}") from None
        if isinstance(error, errors.HFValidationError):
            raise InvalidOption(f"{what} is no name of a repository: {said}") from None
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise BudgetExceeded(f"{what} does not fit into memory, and goes through it as a whole") from None
        if _is_of_the_network(error):
            raise SourceUnavailable(f"the Hub could not be asked for {what}: {said}") from None
        if isinstance(error, OSError):
            raise TransferError(f"{what} could not be fetched from the Hub: {said}") from None
        raise


def _is_of_the_network(error: BaseException) -> bool:
    """Whether nobody answered, or with an error of the server's; httpx, by whichever name, is not imported for this."""
    from huggingface_hub import errors

    known = (ConnectionError, TimeoutError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError)
    return isinstance(error, known) or type(error).__module__.startswith("httpx")
