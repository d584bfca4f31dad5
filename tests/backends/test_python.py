"""The isolated executor: what code prints, where it is stopped, and what the kernel denies it."""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from septet.backends import _isolated_child
from septet.backends.python import Python, PythonActor, removed
from septet.core.backend import MemberSpec, Place
from septet.core.errors import BackendError, BadParameter, ConfigError
from septet.core.prompt import BUILT_IN
from septet.core.types import Run
from septet.testing.actors import check_backend

LACKS = _isolated_child.missing()
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"no code can be isolated here: {LACKS}")


def box(**options: Any) -> PythonActor:
    return Python(**options).connect(Place()).member(MemberSpec(name="box", prompt=BUILT_IN["chat"]))


async def ran(code: str, **options: Any) -> Run:
    return (await box(**options).run(code)).value


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of runs are made; of no other test's."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "runs"))
    return tmp_path / "runs"


async def test_it_keeps_the_contract_of_actors() -> None:
    for check in check_backend(box()):
        await check()


async def test_what_is_printed_is_the_output_and_so_is_a_last_expression() -> None:
    assert await ran("print(2 + 3)") == Run(True, "5\n")
    assert await ran("x = 2\nx + 3") == Run(True, "5\n")
    assert await ran("print('only once')") == Run(True, "only once\n")


async def test_an_error_is_shown_with_its_line_and_the_exit_code() -> None:
    run = await ran("def f():\n    return 1 / 0\nf()")
    assert not run.ok
    assert 'File "<code>", line 2, in f\n    return 1 / 0' in run.error
    assert run.error.endswith("ZeroDivisionError: division by zero\nexit code 1")
    assert "_isolated_child" not in run.error
    assert (await ran("import sys; sys.exit(7)")).error == "exit code 7"
    assert "SyntaxError" in (await ran("def f(:")).error


async def test_code_that_loops_or_sleeps_for_ever_is_stopped() -> None:
    assert await ran("while True: pass", seconds=0.5) == Run(False, "", "stopped after 0.5 seconds")
    sleeping = await ran("print('so far', flush=True)\nimport time; time.sleep(99)", seconds=0.5)
    assert sleeping == Run(False, "so far\n", "stopped after 0.5 seconds")


async def test_code_that_asks_somebody_to_type_is_refused_before_it_runs() -> None:
    run = await ran("print('began')\nname = input('your name?')")
    assert run == Run(False, "", "the code calls input(), and nobody is there to type\nexit code 3")


async def test_memory_and_files_have_a_limit() -> None:
    assert "MemoryError" in (await ran("x = bytearray(2**30)", memory_mb=256)).error
    assert "File too large" in (await ran("open('f', 'wb').write(bytes(3 * 2**20))", file_mb=2)).error


async def test_of_a_long_output_the_beginning_and_the_end_are_kept() -> None:
    run = await ran("print('a' * 500 + 'z' * 500, end='')", output_chars=100)
    assert run.output == "a" * 50 + "\n… 900 bytes left out …\n" + "z" * 50


async def test_its_folder_is_empty_may_be_written_and_is_gone_afterwards(runs: Path) -> None:
    code = (
        "import os\nprint(os.listdir())\nopen('a', 'w').write('kept')\nprint(open('a').read(), os.getcwd())"
    )
    run = await ran(code)
    assert run.output.startswith(f"[]\nkept {runs}/septet-run-")
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize(
    "code",
    [
        "open(TARGET, 'w')",
        "open(TARGET).read()",
        "import os; os.unlink(TARGET)",
        "import os; os.rename(TARGET, 'mine')",
        "import os; os.truncate(TARGET, 0)",
        "import os; os.chmod(TARGET, 0)",
        "import os; os.utime(TARGET)",
        "import os; os.link(TARGET, 'mine')",
        "import os; os.symlink(TARGET, 'there'); open('there').read()",
        "import os; os.setxattr(TARGET, 'user.a', b'1')",
        "import os; os.listdir(os.path.dirname(TARGET))",
    ],
)
async def test_a_file_outside_its_folder_can_be_neither_read_nor_changed(code: str, tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_text("secret")
    stat = target.stat()
    run = await ran(f"TARGET = {str(target)!r}\n{code}")
    assert not run.ok
    assert "PermissionError" in run.error or "Invalid cross-device link" in run.error
    assert target.read_text() == "secret"
    assert (target.stat().st_mode, target.stat().st_mtime_ns) == (stat.st_mode, stat.st_mtime_ns)


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import os; os.fork()",
        "import os; os.execv('/bin/true', ['true'])",
        "import subprocess; subprocess.run(['true'])",
        "import multiprocessing; multiprocessing.Process(target=print).start()",
        "import os; os.kill(os.getppid(), 0)",
        "import os; os.kill(-1, 0)",
        "import os; os.pidfd_open(os.getppid())",
        "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (9, 9))",
        "open(f'/proc/{__import__(\"os\").getppid()}/environ').read()",
        "import ctypes\nif ctypes.CDLL(None, use_errno=True).unshare(0x10000000): raise PermissionError",
        "import ctypes\nif ctypes.CDLL(None, use_errno=True).shmget(1, 4096, 0o1666) < 0: raise PermissionError",
        "import os; os.sched_setaffinity(os.getppid(), [0])",
    ],
)
async def test_no_network_no_process_no_reach_to_others(code: str) -> None:
    run = await ran(code)
    assert not run.ok
    assert "PermissionError" in run.error or "Operation not permitted" in run.error


async def test_it_may_start_threads_and_use_what_is_installed() -> None:
    code = "import threading\nt = threading.Thread(target=lambda: print('thread'))\nt.start(); t.join()\n"
    assert (await ran(code + "import numpy\nprint(int(numpy.arange(4).sum()))")).output == "thread\n6\n"


async def test_nothing_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert (await ran("import os; print(os.environ.get('OPENAI_API_KEY'))")).output == "None\n"


async def test_with_the_network_allowed_only_internet_sockets_can_be_opened() -> None:
    opened = "import socket\nsocket.socket(socket.AF_INET).close()\nsocket.socket(socket.AF_UNIX)"
    run = await ran(opened, network="allowed")
    assert not run.ok
    assert "socket.socket(socket.AF_UNIX)\n" in run.error  # the line before it passed


async def test_a_cancelled_run_ends_its_process_and_leaves_no_folder(runs: Path) -> None:
    running = asyncio.create_task(ran("import time; time.sleep(99)", seconds=99))
    await asyncio.sleep(0.5)
    (folder,) = runs.iterdir()
    assert running_in(folder)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list(runs.iterdir()) == []
    assert not running_in(folder)


def running_in(folder: Path) -> bool:
    """Whether a process has this folder as its home."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and f"HOME={folder}".encode() in (process / "environ").read_bytes():
                return True
    return False


async def test_runs_at_the_same_time_do_not_meet() -> None:
    code = "import os, time\nopen('mine', 'w').close()\ntime.sleep(.2)\nprint(len(os.listdir()))"
    assert [r.output for r in await asyncio.gather(ran(code), ran(code), ran(code))] == ["1\n"] * 3


async def test_a_closed_executor_says_so() -> None:
    actor = box()
    await actor.aclose()
    with pytest.raises(BackendError, match="was closed"):
        await actor.run("1")


def test_a_folder_of_any_depth_without_rights_is_deleted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "locked").mkdir(mode=0)
    here = os.getcwd()
    os.chdir(root)
    try:
        for _ in range(1500):  # deeper than Python's recursion goes
            os.mkdir("d")
            os.chdir("d")
        Path("leaf").touch()
    finally:
        os.chdir(here)
    removed(str(root))
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_cannot_isolate_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigError, match="cannot run code in isolation, since it is not Linux"):
        Python().connect(Place())


def test_a_wrong_option_names_its_rule() -> None:
    with pytest.raises(BadParameter, match=r"python.seconds: must be > 0"):
        Python(seconds=0.0)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("network", [False, True])
def test_the_filter_denies_what_it_should_by_its_own_arithmetic(machine: str, network: bool) -> None:
    column, audit = _isolated_child._ARCHITECTURES[machine]
    program = _isolated_child.filter_of(machine, 77, network)

    def verdict(number: int, first: int = 0, architecture: int = audit) -> int:
        """What the kernel's machine would say of a call: a few lines of BPF."""
        data = struct.pack("=IIQQ", number, architecture, 0, first)
        place = held = 0
        while True:
            code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * place)
            place += 1
            if code == 0x06:
                return int(value)
            if code == 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            else:
                met = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
                place += yes if met else no

    allow, deny = 0x7FFF0000, 0x00050001
    call = {"socket": (41, 198), "kill": (62, 129), "clone": (56, 220), "execve": (59, 221), "read": (0, 63)}
    number = {name: numbers[column] for name, numbers in call.items()}
    assert verdict(number["read"]) == allow
    assert verdict(number["execve"]) == deny
    assert [verdict(number["kill"], pid) for pid in (77, 0, 1)] == [allow, allow, deny]
    assert [verdict(number["clone"], flags) for flags in (0x10000 | 0x100, 17)] == [allow, deny]
    internet = allow if network else deny
    assert [verdict(number["socket"], kind) for kind in (2, 10, 1)] == [internet, internet, deny]
    assert verdict(number["read"], architecture=1) == 0x80000000
    if machine == "x86_64":
        assert verdict(0x40000000) == deny
