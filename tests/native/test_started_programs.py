"""Programs that are started from here see no Tree: what can work does, the rest fails and says why."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import diskless
from diskless import native_api as native
from tests.native.tree import compile_text, run_with_tree

INSTEAD = 'use backing="directory:<path>" for what other programs are to see'


@pytest.fixture
def scratch() -> Iterator[str]:
    before = os.getcwd()
    native.take_messages()
    with diskless.scratch() as path:
        yield path
        os.chdir(before)


def refused(call: Callable[[], object]) -> str:
    """Assert that it fails as a program does that may not be run; returns the sentence for the log."""
    with pytest.raises(PermissionError) as caught:
        call()
    assert caught.value.errno == errno.EACCES
    sentences = native.take_messages()
    assert len(sentences) == 1
    assert sentences[0].endswith(INSTEAD)
    return sentences[0].removesuffix("; " + INSTEAD)


def in_a_child(call: Callable[[], object]) -> int:
    """Return the status of a forked child that makes the call, which is to replace it."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except OSError as error:
            os._exit(100 + error.errno if error.errno else 1)
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., str]:
    """Puts a program of our own at a path."""

    def put(path: str, text: str = "int main() { return 7; }") -> str:
        shutil.copy(compile_text(text, tmp_path / "program"), path)
        return path

    return put


def test_the_working_directory_of_a_subprocess_is_no_directory_of_ours(scratch: str) -> None:
    """vfork_cwd.py of the prototypes, A: subprocess changes it in a vfork child, which shares our memory."""
    os.mkdir(f"{scratch}/w")
    os.chdir("/usr")
    sentence = refused(lambda: subprocess.run(["/bin/pwd"], cwd=f"{scratch}/w", capture_output=True))
    nowhere = "is not started: the working directory is in the RAM of this process, where it would see nothing"
    assert sentence == f"/bin/pwd {nowhere}"
    assert os.getcwd() == "/usr"
    assert os.listdir(".") == os.listdir("/usr")
    os.chdir(scratch)
    refused(lambda: subprocess.run(["/bin/pwd"], cwd="w"))
    refused(lambda: subprocess.run(["/bin/pwd"], cwd=".."))
    shutil.copy("/bin/true", f"{scratch}/w/tool")
    for words in (["./tool"], [f"{scratch}/w/tool"]):
        refused(lambda words=words: subprocess.run(words, cwd=f"{scratch}/w"))
    assert os.getcwd() == scratch
    # What is not there is not there, as on any filesystem.
    for words in (["/no/such/program"], [f"{scratch}/none"], ["no-such-program"]):
        with pytest.raises(FileNotFoundError):
            subprocess.run(words, cwd=f"{scratch}/w")
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/bin/pwd"], cwd=f"{scratch}/none")
    with pytest.raises(NotADirectoryError):
        subprocess.run(["/bin/pwd"], cwd=f"{scratch}/w/tool")
    assert os.getcwd() == scratch and native.take_messages() == []


def test_a_subprocess_elsewhere_leaves_its_parent_where_it_is(scratch: str) -> None:
    """vfork_cwd.py of the prototypes, B."""
    os.chdir(scratch)
    Path("mine").write_text("in RAM")
    for _ in range(3):
        done = subprocess.run(["/bin/pwd"], cwd="/usr", capture_output=True, text=True)
        assert done.stdout == "/usr\n"
        assert os.getcwd() == scratch
        assert Path("mine").read_text() == "in RAM"
    with pytest.raises(FileNotFoundError):
        subprocess.run(["/bin/pwd"], cwd="/no/such/directory")
    assert os.getcwd() == scratch
    assert native.take_messages() == []


def test_a_program_that_inherits_the_directory_stands_nowhere(
    scratch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vfork_cwd.py of the prototypes, C: what needs no working directory works, and nothing lands on a disk."""
    monkeypatch.setenv("PATH", "/no/such/directory:/usr/bin")
    os.chdir(tmp_path)
    (tmp_path / "there").touch()
    os.chdir(scratch)
    Path("here").touch()
    tries = "echo secret > leaked.txt; cat here there ../there; ls; ls ..; mkdir d"
    done = subprocess.run(tries, shell=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.count("No such process") == 7
    told = "/bin/sh is started with no working directory: this one's is in its RAM, where the other sees nothing"
    assert native.take_messages() == [f"{told}; {INSTEAD}"]
    assert subprocess.run(["true"]).returncode == 0
    assert native.take_messages() == [f"{told.replace('/bin/sh', '/usr/bin/true')}; {INSTEAD}"], "of what is there"
    assert os.popen("echo hello").read() == "hello\n"
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp("true", ["true"], {}), 0)[1]) == 0
    assert os.system("true") == 0
    assert in_a_child(lambda: os.execv("/bin/true", ["true"])) == 0
    assert len(native.take_messages()) > 0
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(scratch) == ["here"]


def test_a_process_that_went_there_is_not_replaced(scratch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/directory:/usr/bin")
    os.chdir(scratch)
    refused(lambda: os.execv("/bin/true", ["true"]))
    refused(lambda: os.execvp("true", ["true"]))
    refused(lambda: os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {}))
    assert in_a_child(lambda: (os.chdir(scratch), os.execv("/bin/true", ["true"]))) == 100 + errno.EACCES


def test_popen_of_libc_from_there_stands_nowhere(scratch: str, tmp_path: Path) -> None:
    source = """
        #include <stdio.h>
        #include <errno.h>
        int piped(const char *command) {
          FILE *pipe = popen(command, "r");
          char text[9] = "";
          if (!pipe) return -errno;
          fgets(text, sizeof text, pipe);
          pclose(pipe);
          return text[0];
        }
    """
    piped = ctypes.CDLL(str(compile_text(source, tmp_path / "piped.so"))).piped
    os.chdir(scratch)
    Path("here").touch()
    assert piped(b"echo hello") == ord("h")
    assert piped(b"ls 2>&1; echo x > out") == ord("l")  # "ls: cannot …"
    assert len(native.take_messages()) == 1
    assert os.listdir(scratch) == ["here"]


def test_the_sentence_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "diskless"), diskless.scratch() as path, pytest.raises(PermissionError):
        subprocess.run(["/bin/pwd"], cwd=path)
    assert [record.getMessage() for record in caplog.records if INSTEAD in record.getMessage()] == [
        "/bin/pwd is not started: the working directory is in the RAM of this process, where it would see nothing; "
        + INSTEAD
    ]


def test_a_program_in_ram_runs(scratch: str, program: Callable[..., str]) -> None:
    tool = program(f"{scratch}/tool")
    run = [tool, "word"]
    assert subprocess.run(run).returncode == 7
    assert subprocess.run(run, cwd="/usr").returncode == 7
    assert subprocess.run(["renamed"], executable=tool).returncode == 7
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(tool, run, {}), 0)[1]) == 7
    assert in_a_child(lambda: os.execv(tool, run)) == 7
    assert in_a_child(lambda: os.execve(tool, run, {})) == 7
    assert in_a_child(lambda: os.execl(tool, *run)) == 7
    fd = os.open(tool, os.O_RDONLY)
    assert in_a_child(lambda: os.execve(fd, run, {})) == 7
    os.close(fd)
    os.symlink("tool", f"{scratch}/link")
    assert subprocess.run([f"{scratch}/link"]).returncode == 7
    assert os.system(tool) >> 8 in (126, 127), "the shell sees no Tree"
    assert native.take_messages() == []


def test_a_program_in_ram_gets_its_words_and_environment(scratch: str, program: Callable[..., str]) -> None:
    text = "#include <stdio.h>\n#include <stdlib.h>\nint main(int n, char **w) { puts(w[1]); puts(getenv(w[1])); }"
    tool = program(f"{scratch}/tool", text)
    done = subprocess.run([tool, "HERE"], env={"HERE": "there"}, capture_output=True, text=True)
    assert done.stdout == "HERE\nthere\n"


def test_a_program_in_ram_that_may_not_be_run_is_not(scratch: str, program: Callable[..., str]) -> None:
    tool = program(f"{scratch}/tool")
    os.mkdir(f"{scratch}/d")
    os.chmod(tool, 0o644)
    for path, error in [
        (tool, errno.EACCES),
        (f"{scratch}/d", errno.EACCES),
        (f"{scratch}/none", errno.ENOENT),
        (f"{tool}/x", errno.ENOTDIR),
    ]:
        for start in (lambda path=path: subprocess.run([path]), lambda path=path: os.posix_spawn(path, ["x"], {})):
            with pytest.raises(OSError) as caught:
                start()
            assert caught.value.errno == error
    assert native.take_messages() == []


def test_a_script_in_ram_is_refused(scratch: str) -> None:
    """Its interpreter would open the path once more."""
    script = f"{scratch}/script"
    Path(script).write_text("#!/bin/sh\necho ran\n")
    os.chmod(script, 0o755)
    for start in (
        lambda: subprocess.run([script]),
        lambda: os.posix_spawn(script, [script], {}),
        lambda: os.execv(script, [script]),
    ):
        assert refused(start) == (
            f"{script} is not started: it is in the RAM of this process, where its interpreter could not open it"
        )
    assert subprocess.run([shutil.which("sh") or "sh"], stdin=open(script), capture_output=True).stdout == b"ran\n"


def test_a_program_in_ram_is_found_in_path_before_what_comes_after_it(
    scratch: str, program: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir(f"{scratch}/bin")
    program(f"{scratch}/bin/true")
    Path(f"{scratch}/bin/cat").write_text("no program")
    monkeypatch.setenv("PATH", f"/no/such/directory:{scratch}/bin:/usr/bin:/bin")
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp("true", ["true"], {}), 0)[1]) == 7
    assert in_a_child(lambda: os.execvp("true", ["true"])) == 7
    assert subprocess.run(["true"]).returncode == 7
    with open("/dev/null") as empty:
        assert subprocess.run(["cat"], stdin=empty).returncode == 0, "the real one: ours may not be run"
    monkeypatch.setenv("PATH", f"/usr/bin:/bin:{scratch}/bin")
    assert os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp("true", ["true"], {}), 0)[1]) == 0


def test_a_program_beneath_a_shadow_is_not_run(tmp_path: Path, program: Callable[..., str]) -> None:
    (tmp_path / "d").mkdir()
    shutil.copy("/bin/true", tmp_path / "d/tool")
    with diskless.scratch(at=tmp_path / "d"):
        for start in (
            lambda: subprocess.run([tmp_path / "d/tool"]),
            lambda: os.posix_spawn(tmp_path / "d/tool", ["tool"], {}),
        ):
            with pytest.raises(FileNotFoundError):
                start()
        program(f"{tmp_path}/d/tool")
        assert subprocess.run([tmp_path / "d/tool"]).returncode == 7
    assert subprocess.run([tmp_path / "d/tool"]).returncode == 0


def test_file_actions_hand_over_files_in_ram(scratch: str) -> None:
    Path(f"{scratch}/in").write_text("given\n")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, f"{scratch}/in", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, f"{scratch}/out", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    before = len(os.listdir("/proc/self/fd"))
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "cat; echo error >&2"], {}, file_actions=actions)
    assert os.waitpid(pid, 0)[1] == 0
    assert Path(f"{scratch}/out").read_text() == "given\nerror\n"
    assert os.stat(f"{scratch}/out").st_mode & 0o777 == 0o640
    assert len(os.listdir("/proc/self/fd")) == before + 1, "the file that was made has its own"
    for path, error in [("none", errno.ENOENT), ("out", errno.EEXIST)]:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY if path == "out" else os.O_RDONLY
        with pytest.raises(OSError) as caught:
            os.posix_spawn(
                "/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 5, f"{scratch}/{path}", flags, 0)]
            )
        assert caught.value.errno == error


SPAWNS = """
    #include <errno.h>
    #include <fcntl.h>
    #include <spawn.h>
    #include <sys/wait.h>
    #include <unistd.h>
    extern char **environ;
    /* Starts it though an action was refused; returns that one's error times 1000, plus that of the start. */
    int spawn(const char *program, const char *directory, int fd, const char *file, int *status) {
      posix_spawn_file_actions_t actions;
      posix_spawn_file_actions_init(&actions);
      int added = 0;
      if (directory) added = posix_spawn_file_actions_addchdir_np(&actions, directory);
      if (fd >= 0 && !added) added = posix_spawn_file_actions_addfchdir_np(&actions, fd);
      if (file && !added) added = posix_spawn_file_actions_addopen(&actions, 1, file, O_WRONLY | O_CREAT, 0600);
      char *words[] = {"sh", "-c", "pwd", 0};
      pid_t pid;
      const int started = posix_spawn(&pid, program, &actions, 0, words, environ);
      posix_spawn_file_actions_destroy(&actions);
      if (!started) waitpid(pid, status, 0);
      return added * 1000 + started;
    }
"""


def test_file_actions_that_change_the_directory(scratch: str, tmp_path: Path) -> None:
    spawn = ctypes.CDLL(str(compile_text(SPAWNS, tmp_path / "spawns.so"))).spawn
    status = ctypes.c_int()

    def start(program: bytes, directory: bytes | None, fd: int, file: str | None) -> int:
        return int(spawn(program, directory, fd, file and os.fsencode(file), ctypes.byref(status)))

    denied = errno.EACCES * 1000 + errno.EACCES
    os.chdir("/usr")
    assert start(b"/bin/sh", None, -1, f"{scratch}/out") == 0
    assert Path(f"{scratch}/out").read_text() == "/usr\n"
    assert start(b"/bin/sh", os.fsencode(scratch), -1, None) == denied
    assert len(native.take_messages()) == 1
    ours, theirs = os.open(scratch, os.O_RDONLY), os.open("/usr/lib", os.O_RDONLY)
    assert start(b"/bin/sh", None, ours, None) == denied
    assert len(native.take_messages()) == 1
    # From there, only with another one.
    os.chdir(scratch)
    for directory, fd, says in [(b"/usr", -1, "/usr"), (None, theirs, "/usr/lib"), (b"/usr", theirs, "/usr/lib")]:
        os.truncate("out", 0)
        assert start(b"/bin/sh", directory, fd, f"{scratch}/out") == 0
        assert Path("out").read_text() == f"{says}\n"
    assert native.take_messages() == []
    assert start(b"/bin/sh", b".", -1, None) == denied
    native.take_messages()
    assert start(b"/bin/sh", None, -1, f"{scratch}/out") == 0
    assert Path("out").read_text().startswith("/proc/")
    assert len(native.take_messages()) == 1
    # Relative paths are the new process's own once it has gone elsewhere.
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/sh", tmp_path / "bin/shell")
    assert start(b"bin/shell", os.fsencode(tmp_path), -1, "written") == 0
    assert (tmp_path / "written").read_text() == f"{tmp_path}\n"
    assert not os.path.exists("written")
    os.close(ours)
    os.close(theirs)


def test_a_process_that_was_made_in_other_ways_is_not_its_parent(scratch: str, tmp_path: Path) -> None:
    """vfork itself, clone with our memory, and posix_spawn through a thread: none moves us."""
    source = """
        #include <sched.h>
        #include <signal.h>
        #include <stdlib.h>
        #include <sys/wait.h>
        #include <errno.h>
        #include <unistd.h>
        static const char *to;
        static char here[4096];
        static int go(void *nothing) {
          if (chdir(to) || !getcwd(here, sizeof here)) here[0] = 0;
          _exit(access("beside", F_OK) ? errno : 0);
        }
        static const char *ended(pid_t child, int *status) {
          waitpid(child, status, 0);
          *status = WEXITSTATUS(*status);
          return here;
        }
        const char *after_vfork(const char *path, int *status) {
          to = path;
          const pid_t child = vfork();
          if (!child) go(0);
          return ended(child, status);
        }
        const char *after_clone(const char *path, int *status) {
          static char stack[65536];
          to = path;
          return ended(clone(go, stack + sizeof stack, CLONE_VM | SIGCHLD, 0), status);
        }
    """
    library = ctypes.CDLL(str(compile_text(source, tmp_path / "children.so")))
    os.makedirs(f"{scratch}/d/e")
    Path(scratch, "d", "beside").touch()
    status = ctypes.c_int()
    for started in (library.after_vfork, library.after_clone):
        started.restype = ctypes.c_char_p

        def went(path: str, started: Callable[..., bytes] = started) -> tuple[str, int]:
            return started(os.fsencode(path), ctypes.byref(status)).decode(), status.value

        for start in ("/usr", scratch):
            os.chdir(start)
            for path, there in [("d", 0), ("d/e", errno.ENOENT), ("d/e/..", 0), (".", errno.ENOENT)]:
                assert went(f"{scratch}/{path}") == (os.path.normpath(f"{scratch}/{path}"), there)
            assert went("/usr/bin") == ("/usr/bin", errno.ENOENT), "where the child has gone it is"
            assert os.getcwd() == start
        assert went("d") == (f"{scratch}/d", 0)
        assert went("..") == (os.path.dirname(scratch), errno.ENOENT)
        assert os.getcwd() == scratch
    assert native.take_messages() == []


def test_a_fork_that_runs_nothing_may_go_there(scratch: str) -> None:
    os.mkdir(f"{scratch}/d")
    assert in_a_child(lambda: (os.chdir(f"{scratch}/d"), os._exit(0 if os.getcwd() == f"{scratch}/d" else 1))) == 0
    script = """
        import os, sys, subprocess
        import diskless
        with diskless.scratch() as path:
            try: subprocess.run([sys.executable], preexec_fn=lambda: os.chdir(path))
            except PermissionError: pass
            else: raise AssertionError
            assert os.getcwd() != path
    """
    assert run_with_tree(script) == ""


def test_the_loaders_process_starts_from_there_too(scratch: str) -> None:
    """Nothing of ours depends on where the program stands."""
    os.chdir(scratch)
    pid = native.spawn("/bin/true", ["true"], {}, [])
    while not native.reap(pid):
        pass
    assert native.take_messages() == []
