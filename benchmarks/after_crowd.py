"""How much memory truth inference takes on 100,000 items with 50 labels each: `python benchmarks/after_crowd.py`.

Each number is from a process of its own, which makes its labels, fits one model and nothing else; its memory is the
most that it ever had, the interpreter and its libraries included.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from figures import Section, Setting, figure

ITEMS, WORKERS, LEVELS = 100_000, 50, 4

AIM_MB = 1000.0

MODELS = ("dawid_skene", "one_coin", "glad", "mace")

ROUNDS = {"dawid_skene": 20, "one_coin": 20, "glad": 3, "mace": 20}
"""Rounds of each; memory does not grow with them. GLAD's are a search for gradients each."""


def run(setting: Setting) -> Section:
    """Memory and seconds of each model."""
    items = 500 if setting.quick else ITEMS
    found = {name: _child(name, items) for name in MODELS}
    figures = []
    for name, facts in found.items():
        aim = AIM_MB if items == ITEMS else None
        figures += [
            figure(f"{name}: most memory", [facts["mb"]], unit="MB", aim=aim),
            figure(f"{name}: {ROUNDS[name]} rounds", [facts["seconds"]], unit="s"),
        ]
    return Section(
        "after_crowd",
        f"{items:,} items × {WORKERS} labels of {LEVELS} kinds, {items * WORKERS:,} in all, a process for each",
        tuple(figures),
        (
            f"{_child('none', items)['mb']:.0f} MB without any model: Python, numpy, scipy and the labels themselves",
        ),
        details={"items": items, "models": found},
    )


def _child(name: str, items: int) -> dict[str, Any]:
    """Runs this file in a fresh process; what it printed."""
    made = [sys.executable, __file__, name, str(items)]
    done: dict[str, Any] = json.loads(subprocess.run(made, capture_output=True, text=True, check=True).stdout)
    return done


def fitted(name: str, items: int) -> dict[str, Any]:
    """Fits one model; seconds, the most memory of this process, and how often it names the truth."""
    from time import perf_counter

    import numpy as np
    import scipy.sparse  # what every model but none brings with it
    import scipy.special  # noqa: F401

    from septet.parts.answers import crowd

    rng = np.random.default_rng(0)
    truth = rng.integers(0, LEVELS, items, dtype=np.int32)
    item = np.repeat(np.arange(items, dtype=np.int32), WORKERS)
    worker = np.tile(np.arange(WORKERS, dtype=np.int32), items)
    right = rng.random(len(item), dtype=np.float32) < np.linspace(0.3, 0.9, WORKERS, dtype=np.float32)[worker]
    label = rng.integers(0, LEVELS, len(item), dtype=np.int32)
    label[right] = truth[item[right]]
    del right
    labels = crowd.Labels(item, worker, label, items, WORKERS, LEVELS)
    began, share = perf_counter(), float("nan")
    if name != "none":
        model: Callable[..., Any] = getattr(crowd, name)
        posterior = model(labels, rounds=ROUNDS[name], tolerance=0.0)[0]
        share = float((posterior.argmax(axis=1) == truth).mean())
    seconds = perf_counter() - began
    return {"seconds": round(seconds, 2), "mb": round(_peak_mb(), 1), "right": round(share, 4)}


def _peak_mb() -> float:
    """The most memory that this process had. Linux carries `ru_maxrss` over from the process that started it, so
    /proc is asked where there is one."""
    try:
        with open("/proc/self/status") as status:
            (line,) = [line for line in status if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6
    except FileNotFoundError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(arguments: Sequence[str]) -> int:
    """What a fresh process does; without arguments, all of it."""
    if arguments:
        print(json.dumps(fitted(arguments[0], int(arguments[1]))))
    else:
        from pathlib import Path

        print(run(Setting(Path(), "")).text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
