"""No function of libc comes to a path past the Interposer, however deep inside libc: by its call graph.

`test_symbols` looks at the functions that make a system call themselves. Calls within libc are not redirected, so every
function that calls those is a way past, too (`tmpnam` calls libc's own lstat), and is on a list here if it is not
redirected itself.
"""

from __future__ import annotations

import bisect
import platform
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

import diskless
from tests.native.test_symbols import CALLS, exported_functions, functions_that_call, libc

NATIVE = Path(diskless.__file__).parent / "native"

# Closing and duplicating take no path: close, dup, dup2, dup3, close_range.
PATH_CALLS = CALLS - {3, 32, 33, 292, 436}
# write pwrite64 writev pwritev pwritev2 truncate ftruncate fallocate copy_file_range sendfile splice vmsplice mmap
WRITE_CALLS = {1, 18, 20, 296, 328, 76, 77, 285, 326, 40, 275, 278, 9}

# Functions that reach a path, by what they are for; what calls them is not followed further. Words are patterns of
# whole names.
LEFT_ALONE = {
    "messages in the user's language, from the system's catalogues": r"""
        _*d?c?n?gettext abort _*assert\w* \w*_chk_fail __libc_fatal _dl_signal_\w+ __libc_dynarray_at_failure
        __libc_alloc_buffer\w+ _*xpg_strerror_r _*strerror(_[rl])? strsignal perror psignal psiginfo dlerror herror
        errx? verrx? warnx? vwarnx? error error_at_line argp_\w+ _*(posix_)?getopt\w* _*v?syslog(_chk)? fmtmsg
        __libc_unwind_link_get pthread_getattr_np pthread_(get|set)name_np exit quick_exit""",
    "locales, character sets and time zones, which are the system's": r"""
        _*newlocale _*duplocale setlocale _*gconv_open iconv\w* catopen __open_catalog tzset _*tz\w+ _*gmtime\w*
        localtime\w* ctime\w* asctime\w* strptime\w* getdate\w*""",
    "the memory and the program itself: /proc/self, /sys": r"""
        (malloc|c?free|realloc|calloc|memalign|aligned_alloc|valloc|pvalloc|posix_memalign) malloc_(info|stats)
        __libc_(\w*alloc|memalign|free) _*sysconf get_nprocs\w* (?!_*v?dprintf)\w*printf(_chk)?
        _*backtrace_symbols arc4random\w* _mcleanup q?[efg]cvt(_r)?""",
    "users, hosts, networks and terminals (NSS, RPC, utmp)": r"""
        _*nss_\w+ _nss_\w+ __resolv_\w+ __res_\w+ get(addr|name|if)\w+ gethost\w+ getserv\w+ getgr\w+ getpw\w* getnet\w+
        get_myaddress getrpcport innetgr _*ivaliduser iruserok\w* ruserok\w* ruserpass rcmd\w* rexec\w* initgroups
        \w*netgrent host2netname user2netname if_nameindex inet_nto[ap] ether_ntoa\w* __netlink_assert_response
        authdes_\w+ authunix_\w+ callrpc clnt\w+ __libc_clnt\w+ __libc_rpc_getport key_\w+ pmap_\w+ registerrpc svc\w+
        xdr\w+ login logout logwtmp updwtmpx? \w*etut\w+ pututx?line _*getlogin(_r)?(_chk)? _*ttyname(_r)?(_chk)?
        ttyslot getttyent getttynam setttyent getusershell setusershell getpass gethostid sethostid lckpwdf
        put(gr|pw|sg|sp)ent getfs(ent|file|spec) setfsent openpty forkpty getpt posix_openpt daemon""",
    "the administrator's, on real filesystems": r"""
        chroot mount mount_setattr pivot_root swapon umount2? _*setmntent addmntent""",
    "a descriptor's own: the kernel's answer for ours is right": r"""
        fpathconf isfdtype""",
    "a name that is only proposed, and that whoever makes it must not find taken": r"""
        tmpnam(_r)?""",
}

# What libc's libraries have among themselves. What calls these is followed on.
INTERNAL = r"__open(64)?_nocancel|__file_change_detection_for_\w+|_IO_file_(f?open|stat)|__shm_get_name"

# Names of what is redirected under another name, that no header has declared for twenty years.
OLD_NAMES = {"_IO_fopen": "fopen", "__fstat64": "fstat64", "__mktemp": "mktemp", "__connect": "connect"}

# Functions that write, and why those of them that are not counted need not be.
WRITERS_LEFT_ALONE = {"vmsplice": "writes to pipes only", "herror": "writes to the standard error stream only"}

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the code of x86-64"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump (binutils) is not installed"),
]


def redirected() -> set[str]:
    """The names in the lists of every header, however they are divided."""
    return {name for header in NATIVE.glob("*.h") for name in re.findall(r"\bX\((\w+)\)", header.read_text())}


def patterns() -> list[str]:
    return [pattern for words in LEFT_ALONE.values() for pattern in words.split()]


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class CallGraph:
    """Which function of libc jumps to or calls which, by the addresses at which they begin."""

    def __init__(self, library: str) -> None:
        names: dict[int, set[str]] = defaultdict(set)
        for line in output_of("objdump", "-T", library).splitlines():
            words = line.split()
            if ".text" in words:
                names[int(words[0], 16)].add(words[-1])
        self.names = names
        # libc is stripped: where functions begin is in what unwinds them.
        # (readelf complains of debug information that is not installed, and exits with 1.)
        dumped = subprocess.run(["readelf", "--debug-dump=frames", library], capture_output=True, text=True)
        frames = dumped.stdout
        starts = {int(start, 16) for start in re.findall(r"FDE .*pc=([0-9a-f]+)\.\.", frames)}
        self.starts = sorted(starts | set(names))
        self.callers: dict[int, set[int]] = defaultdict(set)
        self.calling: dict[int, set[int]] = defaultdict(set)
        self._read(output_of("objdump", "-d", "--no-show-raw-insn", library))

    def _function_at(self, address: int) -> int:
        return self.starts[bisect.bisect_right(self.starts, address) - 1]

    def _read(self, listing: str) -> None:
        number = None
        for found in re.finditer(r"^\s+([0-9a-f]+):\t(\S+) *(.*)$", listing, re.MULTILINE):
            function, operation, words = self._function_at(int(found[1], 16)), found[2], found[3]
            if operation == "mov" and (loaded := re.fullmatch(r"\$0x([0-9a-f]+),%eax", words)):
                number = int(loaded[1], 16)
            elif operation == "syscall" and number is not None:
                self.calling[number].add(function)
            elif (operation == "call" or operation.startswith("j")) and (to := re.match(r"([0-9a-f]+) ", words)):
                self.callers[self._function_at(int(to[1], 16))].add(function)

    def reaching(self, numbers: set[int], barrier: re.Pattern[str]) -> dict[str, str]:
        """The exported functions that come to one of these system calls, each with the way there."""
        way: dict[int, int | None] = {function: None for number in numbers for function in self.calling[number]}
        todo = list(way)
        while todo:
            function = todo.pop()
            if any(barrier.fullmatch(name) for name in self.names.get(function, ())):
                continue
            for caller in self.callers[function] - way.keys():
                way[caller] = function
                todo.append(caller)
        return {name: self._told(function, way) for function in way for name in self.names.get(function, ())}

    def _told(self, function: int | None, way: dict[int, int | None]) -> str:
        steps = []
        while function is not None:
            steps.append("/".join(sorted(self.names.get(function, ()))) or hex(function))
            function = way[function]
        return " > ".join(steps)


@pytest.fixture(scope="module")
def graph() -> CallGraph:
    return CallGraph(libc())


def missed(graph: CallGraph, redirected: set[str]) -> dict[str, str]:
    """The functions that reach a path and are on no list, each with its way there."""
    barrier = re.compile("|".join(patterns()))
    reaching = graph.reaching(PATH_CALLS, barrier)
    assert {"open", "fopen", "tmpnam", "glob", "nftw", "realpath", "shm_open"} <= reaching.keys(), "libc was read"
    known = redirected | {old for old, new in OLD_NAMES.items() if new in redirected}
    return {
        name: way
        for name, way in reaching.items()
        if name not in known and not barrier.fullmatch(name) and not re.fullmatch(INTERNAL, name)
    }


def test_every_function_that_reaches_a_path_is_redirected_or_left_alone_for_a_reason(graph: CallGraph) -> None:
    forgotten = missed(graph, redirected())
    assert not forgotten, "\n".join(f"{name}: {way}" for name, way in sorted(forgotten.items()))


@pytest.mark.parametrize("name", ["truncate", "fopen", "ftw", "canonicalize_file_name"])
def test_a_function_that_is_forgotten_is_named(graph: CallGraph, name: str) -> None:
    assert name in missed(graph, redirected() - {name})


def test_what_is_left_alone_is_there_and_not_redirected_at_the_same_time(graph: CallGraph) -> None:
    """Or a list that nobody reads grows over functions that are missed."""
    exported = {name for names in graph.names.values() for name in names}
    unused = [each for each in patterns() if not any(re.fullmatch(each, name) for name in exported)]
    assert not unused
    barrier = re.compile("|".join(patterns()))
    assert not {name for name in redirected() if barrier.fullmatch(name)}


def test_every_function_that_writes_is_counted() -> None:
    """The Budget's side: decisions.md names what is to be counted; libc's code says whether that is all."""
    writing = functions_that_call(libc(), WRITE_CALLS, exported_functions(libc()))
    assert {"write", "pwrite64", "mmap", "copy_file_range", "posix_fallocate"} <= writing
    aliases = {name for name in writing if name.startswith("__") and name[2:] in redirected()}
    assert writing - redirected() - aliases - WRITERS_LEFT_ALONE.keys() == set()
