"""`python -m diskless.cache app.py args`, or `-m module args`: a program with its caches in RAM.

The mirror is what DISKLESS_CACHE names, such as s3://bucket/hub. Imported, this module is the function of its name.
"""

import os
import runpy
import sys

from diskless.caches.library_caches import cache
from diskless.errors import DisklessError

_USAGE = "usage: DISKLESS_CACHE=s3://bucket/prefix python -m diskless.cache (<program> | -m <module>) [argument ...]"


def _main() -> None:
    words = sys.argv[1:]
    is_module = words[:1] == ["-m"]
    program = words[is_module : is_module + 1]
    if not program or program[0].startswith("-"):
        sys.exit(_USAGE)
    mirror = os.environ.get("DISKLESS_CACHE")
    if not mirror:
        sys.exit(f"DISKLESS_CACHE is not set: it names the mirror\n{_USAGE}")
    try:
        cache(mirror).install()
    except DisklessError as error:
        sys.exit(f"diskless.cache: {error}")
    sys.argv = words[is_module:]
    # As python does it: a module is found from where one stands, a program has its own directory first.
    if not getattr(sys.flags, "safe_path", False):  # of 3.11 and later: it has neither there
        sys.path[0] = os.getcwd() if is_module else os.path.dirname(os.path.abspath(program[0]))
    if is_module:
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    _main()
else:
    sys.modules[__name__] = cache  # type: ignore[assignment]
