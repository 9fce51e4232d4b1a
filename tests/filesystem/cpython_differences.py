"""The cases of CPython's tests that fail in a scratch though they pass on a tmpfs, each with its reason."""

from __future__ import annotations

CHILD = "starts another program, which does not see the Tree"

DIFFERENCES: dict[str, str] = {
    # It looks for the interpreter's symlink along a PATH that lies in the Tree.
    "test.test_posix.TestPosixSpawnP.test_posix_spawnp": CHILD,
    # Their child removes, or does not remove, a temporary directory of its own below the TMPDIR that it inherits.
    "test.test_tempfile.TestTemporaryDirectory.test_del_on_shutdown": CHILD,
    "test.test_tempfile.TestTemporaryDirectory.test_del_on_shutdown_ignore_errors": CHILD,
    "test.test_tempfile.TestTemporaryDirectory.test_exit_on_shutdown": CHILD,
    # `python -m zipfile --extract`, into a directory of the Tree.
    "test.test_zipfile.CommandLineTest.test_extract_command": CHILD,
    "test.test_os.MiscTests.test_getcwd_long_path": "changes to a directory of the Tree, which is not possible yet",
}
