"""An executor in this machine: Python code in a process of its own, shut off from files, network and time."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import IO, Annotated, Literal

from septet.backends import _isolated_child
from septet.backends._silent import Silent
from septet.core.backend import Backend, BackendCard, MemberSpec, Place, backend
from septet.core.caps import Caps
from septet.core.errors import BackendError, ConfigError
from septet.core.method import param
from septet.core.types import Metered, Run

_CHILD = str(Path(_isolated_child.__file__))


@backend(
    BackendCard(
        title="Python code, run in isolation",
        offers="runs of code, for a role `executor`; nothing runs unless a role names it",
        tested=("Linux 6.18 on x86_64 with Landlock 7, Python 3.11, as root",),
    )
)
class Python(Backend):
    """How much a piece of code may use.

    Each run is a process of its own of the interpreter that runs septet, in an empty folder that is deleted
    afterwards; the packages that are installed beside septet can be imported. What it prints is the output; a last
    expression is printed too, as in a notebook. Code that calls input() is refused.

    How far the isolation goes. The kernel denies it: to write, and to read, anywhere but in its folder, except that
    it may read the interpreter's own folders, the system's libraries, time zones and /dev/urandom; to change modes,
    owners or times of files; to open a socket; to start a process or program (threads it may start); to signal,
    trace or look into other processes; namespaces, mounts, shared memory, keys, clocks. It has no environment
    variables of septet and no capabilities, even as root. What it may do: see whether a file exists and how large
    it is; use the machine's cores for its time; fill the disk with many files for its time, each as large as
    `file_mb`; attack the kernel through the calls that are left. It is not a virtual machine.

    Without Linux 5.13 (Landlock and seccomp; no privilege is needed) it is refused, not run unprotected.
    """

    seconds: Annotated[float, param("Seconds that one run may take.", gt=0, le=3600)] = 10.0
    memory_mb: Annotated[int, param("Megabytes of address space of one run.", ge=64, le=1_000_000)] = 1024
    file_mb: Annotated[
        int, param("Megabytes that one file, and all it prints, may have.", ge=1, le=100_000)
    ] = 16
    output_chars: Annotated[
        int, param("Characters of what it prints that are kept; of more, the middle is left out.", ge=100)
    ] = 20_000
    network: Annotated[
        Literal["none", "allowed"],
        param("none: no socket can be opened; allowed: internet sockets, as septet itself may open."),
    ] = "none"

    def connect(self, place: Place) -> PythonEndpoint:
        """An endpoint; a machine that cannot isolate it is an error now."""
        if lacks := _isolated_child.missing():
            raise ConfigError(
                f"python: this machine cannot run code in isolation, since {lacks}; run septet on Linux, or name"
                " another executor"
            )
        return PythonEndpoint(self)


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative: by that signal), what it printed, and whether its time was up."""

    code: int
    output: str
    errors: str
    late: bool


class PythonEndpoint:
    """Starts one process per run."""

    def __init__(self, options: Python) -> None:
        self.options = options
        self._closed = False

    def caps(self) -> Caps:
        """Runs of code, and nothing else."""
        return Caps(run=True)

    def member(self, spec: MemberSpec) -> PythonActor:
        """A member; nothing is started."""
        return PythonActor(self, spec)

    async def run(self, code: str) -> Run:
        """One run; a cancelled one ends its process first."""
        if self._closed:
            raise BackendError("the executor was closed and can run no more")
        folder = await asyncio.to_thread(mkdtemp, prefix="septet-run-")
        try:
            with TemporaryFile() as output, TemporaryFile() as errors:
                return self._said(await self._ended(code, folder, output, errors))
        finally:
            await asyncio.to_thread(removed, folder)

    async def _ended(self, code: str, folder: str, output: IO[bytes], errors: IO[bytes]) -> Ended:
        """Starts the process, hands it the code, waits; it prints into files, which are limited like any other."""
        options, late = self.options, False
        wanted = {
            "memory_bytes": options.memory_mb * 2**20,
            "file_bytes": options.file_mb * 2**20,
            "cpu_seconds": ceil(options.seconds) + 1,
            "network": options.network == "allowed",
            "parent": os.getpid(),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-s", "-P", "-B", "-X", "utf8", _CHILD, json.dumps(wanted)),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=errors,
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,  # a signal from the terminal is not for it
            )
        except OSError as error:
            raise BackendError(f"the executor could not start a process: {error}", retryable=True) from error
        try:
            async with asyncio.timeout(options.seconds):
                await process.communicate(code.encode("utf-8", "replace"))
        except TimeoutError:
            late = True
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
        kept = options.output_chars
        return Ended(process.returncode or 0, shown(output, kept), shown(errors, kept), late)

    def _said(self, ended: Ended) -> Run:
        """The run as a plan reads it; the last line of an error says how it ended."""
        if ended.code == _isolated_child.LOCKED_OUT and ended.errors.startswith(_isolated_child.NOT_ISOLATED):
            raise BackendError(ended.errors.strip())
        if ended.code == 0 and not ended.late:
            return Run(True, ended.output, ended.errors)
        if ended.late:
            why = f"stopped after {self.options.seconds:g} seconds"
        elif ended.code == -signal.SIGXCPU:
            why = f"stopped after {ceil(self.options.seconds) + 1} seconds of computing"
        elif ended.code < 0:
            why = f"ended by signal {signal.Signals(-ended.code).name}"
        else:
            why = f"exit code {ended.code}"
        errors = ended.errors.rstrip("\n")
        return Run(False, ended.output, f"{errors}\n{why}" if errors else why)

    async def aclose(self) -> None:
        """Nothing is held between runs."""
        self._closed = True


class PythonActor(Silent):
    """A member of an executor: it runs code, and writes nothing."""

    def __init__(self, endpoint: PythonEndpoint, spec: MemberSpec) -> None:
        super().__init__(spec)
        self._endpoint = endpoint

    @property
    def caps(self) -> Caps:
        return self._endpoint.caps()

    async def run(self, code: str) -> Metered[Run]:
        """What the code printed; `ok` if it ended by itself with exit code 0, else `error` says how it ended."""
        return Metered(await self._endpoint.run(code))

    async def aclose(self) -> None:
        """Nothing is held between runs."""
        await self._endpoint.aclose()


def _environment(folder: str) -> dict[str, str]:
    """All that the code sees of the environment; one thread, and sets in the same order every time."""
    return {
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def shown(printed: IO[bytes], most: int) -> str:
    """What was printed into a file; of more than `most` characters the beginning and the end."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(0)
    if size <= most:
        return printed.read().decode("utf-8", "replace")
    half = most // 2
    first = printed.read(half)
    printed.seek(size - half)
    last = printed.read(half)
    left_out = f"\n… {size - 2 * half} bytes left out …\n"
    return first.decode("utf-8", "ignore") + left_out + last.decode("utf-8", "ignore")


def removed(folder: str) -> None:
    """Deletes a folder whatever is in it: folders that may not be entered, and a tree of any depth, which a
    recursion could not bear. Folders inside folders are moved up to the first level, one by one."""
    moved = 0
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, os.path.join(folder, f"..{moved}"))
                    moved += 1
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
    shutil.rmtree(folder, ignore_errors=True)
