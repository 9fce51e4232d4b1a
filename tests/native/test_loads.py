"""Objects that are loaded while a Mount is open, functions asked for by name, and what is left at the end."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from diskless import native_api
from tests.native.tree import LIBRARY, NativeTree, compile_program, compile_text, run_with_tree

# Opens in every way in which code may hold the address of open.
READER = """
    #include <dlfcn.h>
    #ifdef __x86_64__
    #define VERSION "GLIBC_2.2.5"
    #else
    #define VERSION "GLIBC_2.17"
    #endif
    #include <fcntl.h>
    #include <unistd.h>
    typedef int Open(const char *, int, ...);
    int by_call(const char *path) { return open(path, O_RDONLY); }
    static struct { const char *name; Open *call; } table[] = {{"open", open}, {"open64", open64}};
    int by_table(const char *path) { return table[0].call(path, O_RDONLY); }
    int by_other_table(const char *path) { return table[1].call(path, O_RDONLY); }
    Open *const constant = open;
    int by_constant(const char *path) { return constant(path, O_RDONLY); }
    int by_name(const char *path) { return ((Open *)dlsym(RTLD_DEFAULT, "open64"))(path, O_RDONLY); }
    int by_name_in_libc(const char *path) {
      return ((Open *)dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "open"))(path, O_RDONLY);
    }
    int by_version(const char *path) {
      Open *found = (Open *)dlvsym(RTLD_DEFAULT, "open", VERSION);
      return found ? found(path, O_RDONLY) : -2;
    }
    static Open *kept;
    int by_kept_address(const char *path) {
      if (!kept) kept = (Open *)dlsym(RTLD_DEFAULT, "open");
      return kept(path, O_RDONLY);
    }
"""
WAYS = ["by_call", "by_table", "by_other_table", "by_constant", "by_name", "by_name_in_libc", "by_version"]
WAYS += ["by_kept_address"]


def reads(library: ctypes.CDLL, way: str, path: str) -> bytes | None:
    """What the library's function reads, or None where it cannot open the path."""
    fd = getattr(library, way)(os.fsencode(path))
    if fd < 0:
        return None
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[list[ctypes.CDLL]]:
    """Libraries to be unloaded at the end."""
    libraries: list[ctypes.CDLL] = []
    yield libraries
    for library in libraries:
        _ctypes.dlclose(library._handle)


@pytest.mark.parametrize("binding", ["-Wl,-z,now", "-Wl,-z,lazy", "-fno-plt"])
@pytest.mark.parametrize("when", ["before", "while it is open"])
def test_every_way_to_hold_a_function_leads_into_the_tree(
    when: str, binding: str, tmp_path: Path, loaded: list[ctypes.CDLL]
) -> None:
    file = compile_text(READER, tmp_path / "reader.so", binding)
    if when == "before":
        loaded.append(ctypes.CDLL(str(file)))
    with NativeTree() as tree:
        tree.file("a", b"in RAM")
        if when != "before":
            loaded.append(ctypes.CDLL(str(file)))
        assert {way: reads(loaded[0], way, tree.path("a")) for way in WAYS} == dict.fromkeys(WAYS, b"in RAM")
        tree.deactivate()
        # The names are still there, but nobody is shown them: whoever kept a hook's address is passed on, unless ram://
        # was used in this process, which calls the hooks by their addresses, too.
        asked_for = native_api.function.cache_info().currsize > 0
        shown = dict.fromkeys(WAYS) | {"by_kept_address": b"in RAM" if asked_for else None}
        assert {way: reads(loaded[0], way, tree.path("a")) for way in WAYS} == shown
        assert tree.call("patched_slots") == 0
        (tmp_path / "b").write_bytes(b"on disk")
        assert {way: reads(loaded[0], way, str(tmp_path / "b")) for way in WAYS} == dict.fromkeys(WAYS, b"on disk")


def test_an_object_loaded_by_another_library_is_patched(tmp_path: Path, loaded: list[ctypes.CDLL]) -> None:
    """A plugin: by the time its functions are asked for, it reads the Tree."""
    compile_text(READER, tmp_path / "plugin.so")
    host = """
        #include <dlfcn.h>
        int by_plugin(const char *path) {
          void *plugin = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
          return ((int (*)(const char *))dlsym(plugin, "by_call"))(path);
        }
    """
    with NativeTree() as tree:
        tree.file("a", b"in RAM")
        loaded.append(ctypes.CDLL(str(compile_text(host, tmp_path / "host.so", f'-DPLUGIN="{tmp_path}/plugin.so"'))))
        assert reads(loaded[0], "by_plugin", tree.path("a")) == b"in RAM"


@pytest.mark.parametrize("tag", ["--enable-new-dtags", "--disable-new-dtags"], ids=["RUNPATH", "RPATH"])
def test_origin_of_the_caller_is_searched_as_without_us(tag: str, tmp_path: Path, loaded: list[ctypes.CDLL]) -> None:
    """A wrapper around dlopen would be the caller, and its $ORIGIN be searched instead."""
    (tmp_path / "lib").mkdir()
    compile_text("int answer(void) { return 42; }", tmp_path / "lib/libsibling_of_the_caller.so")
    caller = """
        #include <dlfcn.h>
        int ask(void) {
          void *sibling = dlopen("libsibling_of_the_caller.so", RTLD_NOW);
          int answer = sibling ? ((int (*)(void))dlsym(sibling, "answer"))() : -1;
          if (sibling) dlclose(sibling);
          return answer;
        }
    """
    # Passed on as it stands, not to a shell.
    options = [f"-Wl,{tag}", "-Wl,-rpath,$ORIGIN/lib", "-fno-optimize-sibling-calls"]
    file = compile_text(caller, tmp_path / "caller.so", *options)
    with NativeTree() as tree:
        loaded.append(ctypes.CDLL(str(file)))
        assert loaded[0].ask() == 42
        tree.deactivate()
        assert loaded[0].ask() == 42
        tree.activate()
        assert loaded[0].ask() == 42


def test_next_is_counted_from_the_caller(tmp_path: Path, loaded: list[ctypes.CDLL]) -> None:
    source = """
        #include <dlfcn.h>
        int getpid(void) { return -7; }
        int next_getpid(void) { return ((int (*)(void))dlsym(RTLD_NEXT, "getpid"))(); }
    """
    with NativeTree():
        loaded.append(ctypes.CDLL(str(compile_text(source, tmp_path / "wraps.so"))))
        assert loaded[0].next_getpid() == os.getpid()


def test_objects_that_are_unloaded_while_a_mount_is_open_do_no_harm(tmp_path: Path) -> None:
    """dlclosed_slots.c of the prototypes: restoring the slot of an object that is gone crashed."""
    files = [compile_text(READER + f"int number(void) {{ return {i}; }}", tmp_path / f"l{i}.so") for i in range(8)]
    script = f"""
        import ctypes, _ctypes
        files = {[str(file) for file in files]!r}
        tree.file("a", b"x")
        def load(file):
            library = ctypes.CDLL(file)
            fd = library.by_call(tree.path("a").encode())
            assert fd >= 0
            os.close(fd)
            return library._handle
        for turn in range(20):
            handles = [load(file) for file in files]
            for handle in handles[turn % 3::2]: _ctypes.dlclose(handle)
            if turn % 2:
                tree.deactivate()
                assert tree.call("patched_slots") == 0
                assert not os.path.exists(tree.path("a"))
                tree.activate()
            for handle in set(handles) - set(handles[turn % 3::2]): _ctypes.dlclose(handle)
            assert not any(file in open("/proc/self/maps").read() for file in files)
        tree.deactivate()
        assert tree.call("patched_slots") == 0
    """
    assert run_with_tree(script) == ""


def test_a_first_call_in_the_midst_of_patching_does_not_undo_it(tmp_path: Path) -> None:
    """lazy_binding_race.cpp of the prototypes: the linker overwrote a slot that had been patched."""
    # Objects that are searched before libc, so that looking a function up takes the linker a while.
    first = compile_text("int nothing;", tmp_path / "libmany.so")
    many = [shutil.copy(first, tmp_path / f"libmany{i}.so") for i in range(200)]
    program = compile_program("lazy.c", tmp_path, "-Wl,--no-as-needed", *map(str, many))
    source = "#include <fcntl.h>\nint open_by_library(const char *path) { return open(path, O_RDONLY); }"
    lazy = compile_text(source, tmp_path / "open.so", "-Wl,-z,lazy")
    done = subprocess.run([program, LIBRARY, lazy], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("lost 0, left 0\n", "")


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_reads_a_database_through_its_function_table(tree: NativeTree, journal: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "db") as made:
        made.execute(f"pragma journal_mode={journal}")
        made.execute("create table t as select 1 as a union select 2")
    made.close()
    tree.file("db", (tmp_path / "db").read_bytes())
    # SQLite asks for a database in WAL mode to be writable, unless it is told that nobody writes.
    options = "mode=ro" if journal == "delete" else "immutable=1"
    database = sqlite3.connect(f"file:{tree.path('db')}?{options}", uri=True)
    assert database.execute("select sum(a) from t").fetchone() == (3,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("insert into t values (3)")
    database.close()


def test_a_library_is_loaded_from_the_tree(tree: NativeTree, tmp_path: Path) -> None:
    """And knows itself by its path there, by which libraries find what lies beside them."""
    source = """
        #include <dlfcn.h>
        int answer(void) { return 42; }
        const char *whereabouts(void) { Dl_info info; return dladdr(answer, &info) ? info.dli_fname : 0; }
    """
    tree.file("lib/plugin.so", compile_text(source, tmp_path / "plugin.so").read_bytes(), mode=0o555)
    plugin = ctypes.CDLL(tree.path("lib/plugin.so"))
    plugin.whereabouts.restype = ctypes.c_char_p
    assert plugin.answer() == 42
    assert plugin.whereabouts() == tree.path("lib/plugin.so").encode()
    again = ctypes.CDLL(tree.path("lib/plugin.so"))
    assert again._handle == plugin._handle
    dlmopen = ctypes.CDLL(None).dlmopen
    dlmopen.restype = ctypes.c_void_p
    of_everybody, of_its_own = ctypes.c_long(0), ctypes.c_long(-1)
    assert dlmopen(of_everybody, plugin.whereabouts(), os.RTLD_NOW) == plugin._handle
    apart = ctypes.CDLL(tree.path("lib/plugin.so"), handle=dlmopen(of_its_own, plugin.whereabouts(), os.RTLD_NOW))
    assert apart._handle != plugin._handle and apart.answer() == 42
    assert dlmopen(of_its_own, os.fsencode(tree.path("lib/none.so")), os.RTLD_NOW) is None
    with pytest.raises(OSError, match="cannot open shared object file"):
        ctypes.CDLL(tree.path("lib/none.so"))


def test_a_number_that_a_library_was_loaded_by_is_not_used_again(tmp_path: Path) -> None:
    """dlopen_reused_number.py of the prototypes: the linker takes libraries of one name for one."""
    for number in (1, 2):
        compile_text(f"int who(void) {{ return {number}; }}", tmp_path / f"l{number}.so")
    script = f"""
        import ctypes, _ctypes
        for turn in range(3):
            for number in (1, 2):
                name = f"lib{{turn}}.so"
                tree.file(name, open(f"{tmp_path}/l{{number}}.so", "rb").read())
                library = ctypes.CDLL(tree.path(name))
                assert library.who() == number, (turn, number)
                tree.remove(name)
                tree.call("release", tree.fds.pop())
                if turn == 1: _ctypes.dlclose(library._handle)
                os.closerange(3, 5000)
    """
    assert run_with_tree(script) == ""


def test_siblings_of_a_library_in_the_tree_must_be_loaded_before_it(tree: NativeTree, tmp_path: Path) -> None:
    """dlopen_origin.py of the prototypes: $ORIGIN's files are opened by the linker itself, past every hook."""
    sibling = compile_text("int b(void) { return 2; }", tmp_path / "libsib.so", "-Wl,-soname,libsib_of_the_tree.so")
    options = [sibling, "-Wl,-rpath,$ORIGIN"]
    first = compile_text("int b(void); int a(void) { return b() + 1; }", tmp_path / "first.so", *options)
    tree.file("first.so", first.read_bytes())
    tree.file("libsib_of_the_tree.so", sibling.read_bytes())
    with pytest.raises(OSError, match=r"libsib_of_the_tree\.so: cannot open shared object file"):
        ctypes.CDLL(tree.path("first.so"))
    ctypes.CDLL(tree.path("libsib_of_the_tree.so"))
    assert ctypes.CDLL(tree.path("first.so")).a() == 3
