"""Jobs of a bench side by side in processes: what each came to, in its own file; a stopped run goes on."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any

from septet.bench.jobs import Job, done
from septet.core.errors import SeptetError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Set to one in every process, so that processes do not take each other's cores."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many pieces are, and how many there are."""


@dataclass(frozen=True)
class Failure:
    """A job that ended in an error; the others are kept."""

    job: str
    error: str


class Tally:
    """How far a run of jobs is: `left`, those that no earlier run has done; every one that ends is told."""

    def __init__(self, jobs: Sequence[Job], folder: Path, progress: Progress | None) -> None:
        self.left = [job for job in jobs if done(folder / "jobs", job) is None]
        self._order = {job.label: i for i, job in enumerate(jobs)}
        self._n_done, self._progress = len(jobs) - len(self.left), progress
        self.tell("reading")

    def tell(self, what: str) -> None:
        """Says what is being done."""
        if self._progress is not None:
            self._progress(what, self._n_done, len(self._order))

    def failures(self, ended: Iterable[tuple[Job, str | None]]) -> list[Failure]:
        """Counts the jobs as they end; those that failed, in the order of the run."""
        found = []
        for job, error in ended:
            self._n_done += 1
            self.tell(job.label)
            if error is not None:
                found.append(Failure(job.label, error))
        return sorted(found, key=lambda f: self._order[f.job])


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what lasts longer with a TimeoutError, where the system has such a clock and this is the main thread."""
    if not seconds or not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise TimeoutError(f"given up after {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Submit = Callable[..., "Future[str | None]"]


@contextmanager
def processes(workers: int) -> Iterator[Submit]:
    """Where jobs run: fresh processes with one thread of linear algebra each, or this one if there is one worker."""
    if workers == 1:
        yield _here
        return
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _end_with_parent() -> None:
    """Ends this process when the one that started it is killed, which else would leave it waiting for ever."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _here(function: Callable[..., str | None], *arguments: Any) -> Future[str | None]:
    future: Future[str | None] = Future()
    future.set_result(function(*arguments))
    return future


def each(
    submit: Submit, function: Callable[[Job, Path], Any], jobs: Sequence[Job], folder: Path
) -> Iterator[tuple[Job, str | None]]:
    """Every job as it ends, with its error if it had one."""
    if submit is _here:
        for job in jobs:
            yield job, _error(submit(attempt, function, job, folder))
        return
    running: dict[Future[str | None], Job] = {}
    for job in jobs:
        try:
            running[submit(attempt, function, job, folder)] = job
        except BrokenProcessPool:  # a process has died while the jobs were handed out
            yield job, DIED
    for future in as_completed(running):
        yield running[future], _error(future)


DIED = "its process has died, perhaps for want of memory; run again to go on where it stopped"


def _error(future: Future[str | None]) -> str | None:
    error = future.exception()
    if error is None:
        return future.result()
    return DIED if isinstance(error, BrokenProcessPool) else f"{type(error).__name__}: {error}"


def attempt(function: Callable[[Job, Path], Any], job: Job, folder: Path) -> str | None:
    """Does a job where it is; what went wrong comes back as words, since not every error can be sent home."""
    try:
        function(job, folder)
    except (SeptetError, TimeoutError) as error:
        return str(error)
    except Exception as error:  # a method may fail in any way; the others go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
    return None
