"""Terms: what `mount`, `prefetch` and `open` are asked for, checked; from here on it is a Job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diskless.errors import InvalidOption
from diskless.forks import LOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from diskless.events import EventFunction
    from diskless.job import Job, Request
    from diskless.progress import Progress
    from diskless.ram.backing import Backing
    from diskless.sources import SourceSpec

_LOADS = ("eager", "background", "lazy")
_ready = False


class Terms:
    """A load that makes sense. Nothing was asked of the network yet.

    No dataclass: those take longer to import than the Loader to start.
    """

    def __init__(
        self,
        spec: SourceSpec,
        backing: Backing,
        *,
        load: str,
        allow_patterns: str | Sequence[str] | None,
        ignore_patterns: str | Sequence[str] | None,
        verify: bool,
        budget_bytes: int | None,
        budget_timeout_s: float,
        progress: Progress,
        on_event: EventFunction | None,
    ) -> None:
        self.spec = spec
        self.backing = backing
        self.load = load
        self.verify = verify
        self._allow_patterns = allow_patterns
        self._ignore_patterns = ignore_patterns
        self._budget_bytes = budget_bytes
        self._budget_timeout_s = budget_timeout_s
        self._progress = progress
        self._on_event = on_event

    @property
    def request(self) -> Request:
        """What equal loads have in common."""
        from diskless.job import Request
        from diskless.selection import patterns

        return Request(
            self.spec.display,
            self.spec.identity,
            patterns("allow_patterns", self._allow_patterns),
            patterns("ignore_patterns", self._ignore_patterns),
            self.backing.name,
            self.verify,
        )

    def join(
        self,
        *,
        keep: bool,
        lazy: bool = False,
        single: bool = False,
        private: int = 0,
        most_part_bytes: int | None = None,
        kept: bool = False,
    ) -> Job:
        """Return the job for this, running or complete, with one more claim: the prefetch's if `keep`, else a reader's.

        One that is `single` fails where the URL is no object; one with a number of its own in `private` is shared with
        nobody, and read through a window. One that nobody has but `ramcache::` is joined where it is current, or `kept`
        says that this is known; a prefetch, which asks nothing of the network here, does not join it, and shares
        complete files all the same.
        """
        from diskless.job import Job
        from diskless.progress import display
        from diskless.ram.store import store_of

        # A bar would stand there for as long as the Mount.
        show = display(self._progress if not lazy or callable(self._progress) else False, self.spec.display)
        request = self.request._replace(private=private)
        with LOCK:
            found = Job.joinable(request)
            unasked = found is not None and found.kept and not found.held and found.mounts == 0 and not kept
        if found is not None and unasked and (keep or not found.is_current()):
            found.set_aside()
        with LOCK:
            store = store_of(self.backing)

            def make() -> Job:
                return Job(
                    request,
                    self.spec,
                    store,
                    self._budget_bytes,
                    self._budget_timeout_s,
                    show,
                    self._on_event,
                    lazy=lazy,
                    most_part_bytes=most_part_bytes,
                )

            job, new = Job.join(request, make)
            job.single = single and (new or job.single)
            if keep:
                job.held = True
            else:
                job.mounts += 1
        if new:
            try:
                job.start()
            except BaseException:
                job.end_unless_it_runs()
                if keep:
                    job.close()
                else:
                    job.release()
                raise
        return job


def check(
    url: str,
    *,
    load: str = "eager",
    allow_patterns: str | Sequence[str] | None = None,
    ignore_patterns: str | Sequence[str] | None = None,
    verify: bool = False,
    session: object | None = None,
    storage_options: Mapping[str, object] | None = None,
    fs: object | None = None,
    backing: str = "auto",
    budget: int | str | None = None,
    budget_timeout_s: float = 0.0,
    progress: Progress = None,
    on_event: EventFunction | None = None,
    at: str | None = None,
) -> Terms:
    """Return the Terms for the arguments of `mount`; raises what it says of wrong ones."""
    if load not in _LOADS:
        raise InvalidOption(f"load={load!r} is none of {', '.join(map(repr, _LOADS))}")
    if not isinstance(verify, bool):
        raise InvalidOption(f"verify= is True or False, not {verify!r:.50}")
    if not isinstance(budget_timeout_s, (int, float)) or not 0 <= budget_timeout_s < float("inf"):
        raise InvalidOption(f"budget_timeout_s= is a number of seconds, 0 or more, not {budget_timeout_s!r:.50}")
    get_ready()
    from diskless.events import quiet
    from diskless.ram.backing import choose
    from diskless.ram.budget import parse_size
    from diskless.sources import resolve

    hook = quiet(on_event)
    with LOCK:
        chosen = choose(backing)
        if at is not None:
            chosen.check_at(at)
    return Terms(
        resolve(url, session=session, storage_options=storage_options, fs=fs),
        chosen,
        load=load,
        allow_patterns=allow_patterns,
        ignore_patterns=ignore_patterns,
        verify=verify,
        budget_bytes=parse_size(budget),
        budget_timeout_s=budget_timeout_s,
        progress=progress,
        on_event=hook,
    )


def get_ready() -> None:
    """Import what only a load needs, while the Loader starts; nothing where that was done before.

    Under LOCK, so that no fork falls into it: a child forked while another thread is in the midst of an import would
    wait for that thread, which it does not have.
    """
    global _ready
    with LOCK:
        if _ready:
            return
        from diskless.loader import start

        start.begin()
        import configparser  # noqa: F401  # here and below: for the functions that use them, which find them imported
        import hashlib  # noqa: F401
        import shlex  # noqa: F401

        from diskless import job, progress  # noqa: F401
        from diskless.loader import client  # noqa: F401
        from diskless.sources import resolve  # noqa: F401

        _ready = True
