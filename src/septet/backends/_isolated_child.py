"""What runs inside the isolated executor: it locks itself up, and then runs the code that stands on its input.

The executor starts this file as a program of its own, so it imports nothing but the standard library. Three walls
of the Linux kernel, none of which needs a privilege or a tool: limits on what a process may use (setrlimit), a rule
set on files (Landlock), and a filter on system calls (seccomp). Each holds for the process for good.
"""

from __future__ import annotations

import ast
import ctypes
import json
import linecache
import os
import platform
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

REFUSED = 3
"""Exit code of code that is not run because it calls input()."""

LOCKED_OUT = 125
"""Exit code when the walls could not be built; the code has not run, and the error begins with `NOT_ISOLATED`."""

NOT_ISOLATED = "the executor could not be isolated"

NAME = "<code>"

_READ = (1 << 2) | (1 << 3)
"""Landlock: read files, list folders."""
_OWN = _READ | (1 << 1) | (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8) | (1 << 10) | (1 << 12)
"""Landlock, in the own folder: also write, remove, and make folders, files, pipes and links."""
_OWN_LATER = ((2, 1 << 13), (3, 1 << 14))
"""Landlock, by the version that knows them: move between own folders, cut files."""
_N_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Landlock: how many rights on files a version knows; 16 from version 5 on."""

_LIBRARIES = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/urandom",
)
_FOR_NETWORK = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/usr/share/ca-certificates",
)

# Numbers of system calls: (x86_64, aarch64); None where there is no such call.
_SOCKET = (41, 198)
_DENIED: tuple[tuple[int | None, int | None], ...] = (
    *((425, 425), (426, 426), (427, 427)),  # io_uring: calls that no filter sees
    *((57, None), (58, None), (59, 221), (322, 281)),  # fork, vfork, execve, execveat
    *((200, 130), (129, 138), (297, 240), (424, 424)),  # signals to others
    *((434, 434), (438, 438), (101, 117), (310, 270), (311, 271), (440, 440), (312, 272)),  # other processes
    *((141, 140), (144, 119), (142, 118), (314, 274), (251, 30), (256, 238), (279, 239)),  # their priorities
    *((272, 97), (308, 268), (165, 40), (166, 39), (155, 41), (161, 51)),  # namespaces and mounts
    *((428, 428), (429, 429), (430, 430), (431, 431), (432, 432), (433, 433), (442, 442), (304, 265)),
    *((321, 280), (298, 241), (323, 282), (250, 219), (248, 217), (249, 218)),  # bpf, perf, userfaultfd, keys
    *(
        (175, 105),
        (313, 273),
        (176, 106),
        (246, 104),
        (320, 294),
        (169, 142),
        (167, 224),
        (168, 225),
    ),  # kernel
    *((103, 116), (163, 89), (179, 60), (164, 170), (227, 112), (305, 266), (159, 171)),  # log, quota, clocks
    *((170, 161), (171, 162), (172, None), (173, None), (300, 262)),  # names, ports, watching files
    # owners, modes, times and attributes of files, which Landlock does not guard; cutting by path, which only
    # its later versions do
    *((90, None), (91, 52), (268, 53), (452, 452), (92, None), (93, 55), (94, None), (260, 54), (76, 45)),
    *((188, 5), (189, 6), (190, 7), (197, 14), (198, 15), (199, 16), (463, 463), (466, 466)),
    *((132, None), (235, None), (261, None), (280, 88)),
    *((29, 194), (68, 186), (64, 190), (240, 180)),  # shared memory and queues that outlive the process
)
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OF_ONESELF = ((62, 129), (234, 131), (302, 261), (203, 122))  # kill, tgkill, prlimit64, sched_setaffinity
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_THREAD = 0x10000

_EPERM, _ENOSYS = 1, 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def missing() -> str:
    """What this machine lacks for the walls, as a phrase; "" where nothing is missing. Changes nothing."""
    if sys.platform != "linux":
        return "it is not Linux"
    if platform.machine() not in _ARCHITECTURES:
        return f"its architecture {platform.machine()!r} is not one of {', '.join(_ARCHITECTURES)}"
    if landlock_version() < 1:
        return "its kernel has no Landlock (Linux 5.13 or later, not switched off)"
    if _libc().prctl(21, 0, 0, 0, 0) < 0:
        return "its kernel has no seccomp"
    return ""


def landlock_version() -> int:
    """The version of Landlock that the kernel has; below 1: none."""
    return int(_libc().syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def filter_of(machine: str, own: int, network: bool) -> bytes:
    """The filter on system calls as BPF instructions of 8 bytes: what is denied fails with "not permitted".

    `own`: the process id, since a process may signal itself. New threads are allowed, new processes are not.
    """
    column, audit = _ARCHITECTURES[machine]
    deny, allow = _op(_RETURN, _ERRNO | _EPERM), _op(_RETURN, _ALLOW)
    program = [_op(_LOAD, 4), _op(_IF_EQUAL, audit, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, 0)]
    if machine == "x86_64":
        program += [_op(_IF_AT_LEAST, 0x40000000, 0, 1), deny]  # the same calls by other numbers
    for numbers in _DENIED:
        if (number := numbers[column]) is not None:
            program += [_op(_IF_EQUAL, number, 0, 1), deny]
    # with the network, sockets of the two internet protocols; never those that are files of this machine
    program += [_op(_IF_EQUAL, _SOCKET[column], 0, 5 if network else 1)]
    if network:
        program += [_op(_LOAD, 16), _op(_IF_EQUAL, 2, 1, 0), _op(_IF_EQUAL, 10, 0, 1), allow]
    program += [deny]
    # a filter cannot look into the arguments of clone3; libraries then use clone
    program += [_op(_IF_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, _ERRNO | _ENOSYS)]
    program += [
        _op(_IF_EQUAL, _CLONE[column], 0, 4),
        _op(_LOAD, 16),
        _op(_IF_BITS, _THREAD, 0, 1),
        allow,
        deny,
    ]
    for numbers in _OF_ONESELF:
        program += [_op(_IF_EQUAL, numbers[column], 0, 5), _op(_LOAD, 16)]
        program += [_op(_IF_EQUAL, own, 1, 0), _op(_IF_EQUAL, 0, 0, 1), allow, deny]
    return b"".join([*program, allow])


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def lock_up(options: Mapping[str, Any]) -> None:
    """Builds the walls; raises OSError where one cannot be built."""
    folder = os.getcwd()
    for what, most in (
        (resource.RLIMIT_AS, options["memory_bytes"]),
        (resource.RLIMIT_FSIZE, options["file_bytes"]),
        (resource.RLIMIT_CPU, options["cpu_seconds"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    libc = _libc()
    _done(libc.prctl(1, signal.SIGKILL, 0, 0, 0))  # it ends with the process that started it
    if os.getppid() != options["parent"]:
        raise OSError("the process that started it has ended")
    _done(libc.prctl(38, 1, 0, 0, 0))  # no new privileges, which both walls ask for
    _wall_files(libc, folder, options["network"])
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _done(libc.capset(header, none))  # root or not, it has no capability
    program = filter_of(platform.machine(), os.getpid(), options["network"])
    kept = ctypes.create_string_buffer(program, len(program))
    rules = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(kept))
    _done(libc.prctl(22, 2, ctypes.c_char_p(rules), 0, 0))


def _wall_files(libc: Any, folder: str, network: bool) -> None:
    """Landlock: the libraries and the interpreter may be read, the own folder is its own, all else is shut."""
    version = landlock_version()
    rights = (1 << _N_RIGHTS.get(version, 16)) - 1
    shut = struct.pack("=QQQ", rights, 0 if network else 3, 3)  # files; TCP; sockets and signals of others
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _done(libc.syscall(444, ctypes.c_char_p(shut), ctypes.c_size_t(size), ctypes.c_uint(0)))
    own = _OWN | sum(right for since, right in _OWN_LATER if version >= since)
    read = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *_LIBRARIES}
    allowed = [*dict.fromkeys((*sorted(read), *(_FOR_NETWORK if network else ())), _READ).items()]
    for path, right in [*allowed, ("/dev/null", _READ | (1 << 1)), (folder, own)]:
        if not os.path.exists(path):
            continue
        if not os.path.isdir(path):
            right &= ~(1 << 3)  # a file cannot be listed
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.c_char_p(struct.pack("=Qi", right, place))
        _done(libc.syscall(445, rules, ctypes.c_int(1), rule, ctypes.c_uint(0)))
        os.close(place)
    _done(libc.syscall(446, rules, ctypes.c_uint(0)))
    os.close(rules)


def _done(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def parsed(code: str) -> ast.Module:
    """The code as a syntax tree, in which a last expression is printed unless it is None, as in a notebook."""
    tree = ast.parse(code, NAME)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        shown = ast.parse("(lambda value: None if value is None else print(value))(0)", NAME).body[0]
        assert isinstance(shown, ast.Expr) and isinstance(shown.value, ast.Call)
        shown.value.args = [last.value]
        tree.body[-1] = ast.copy_location(shown, last)
    return ast.fix_missing_locations(tree)


def calls_input(tree: ast.AST) -> bool:
    """Whether the code asks somebody to type."""
    return any(name == "input" for name in _called(tree))


def _called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def main() -> int:
    """Reads the code, locks itself up, runs the code; the exit code is the code's own."""
    code = sys.stdin.buffer.read().decode("utf-8", "replace")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        lock_up(json.loads(sys.argv[1]))
    except OSError as error:
        sys.stderr.write(f"{NOT_ISOLATED}: {error}\n")
        return LOCKED_OUT
    sys.argv = [NAME]
    try:
        tree = parsed(code)
        if calls_input(tree):
            sys.stderr.write("the code calls input(), and nobody is there to type\n")
            return REFUSED
        linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)
        exec(compile(tree, NAME, "exec"), {"__name__": "__main__"})
    except SystemExit:
        raise
    except BaseException as error:
        with suppress(BaseException):  # without the frames of this file
            own = None if error.__traceback__ is None else error.__traceback__.tb_next
            in_code = own is not None and own.tb_frame.f_code.co_filename == NAME
            traceback.print_exception(error.with_traceback(own if in_code else None))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
