"""`diskless.mount`."""

from __future__ import annotations

from benchmarks.contenders.target import Held, Target, Transfer


def mount(target: Target) -> Transfer:
    """Eager; its Loader process starts with the first transfer and so belongs to the start-up."""
    import diskless

    opened = []  # a Mount is closed when it is forgotten

    def transfer() -> list[Held]:
        mounted = diskless.mount(target.url, progress=False)
        opened.append(mounted)
        if len(target.keys) == 1:
            return [mounted.path]
        return [f"{mounted.path}/{key.removeprefix(target.prefix)}" for key in target.keys]

    return transfer
