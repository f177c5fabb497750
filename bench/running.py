# SPDX-License-Identifier: Apache-2.0
"""Makes the runs of a plan one after the other. One that fails is kept as a figure with its reason; Ctrl-C ends all
servers and keeps what was measured."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.cells import Figure, NotPossibleError, Task
from bench.peers import PEERS
from bench.planning import Plan, Step
from bench.results import LeftOut, Run, save

GRACE = 1.15  # of the budget; estimates err
FAILED = "failed: "
MOST_FAILURES = 2  # of a server in a cell; in a third round it would fail again, after the same wait
NO_TIME = "no time was left for it (see --budget-minutes)"


def machine() -> str:
    """What a reader needs to know of it."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return (
        f"{cores} cores, {memory:.0f} GiB of memory, data on {file_system(Path(tempfile.gettempdir()))}, {system}, "
        f"Python {platform.python_version()}"
    )


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, from the table of mounts."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(row[1], row[2]) for row in rows if path.resolve().is_relative_to(row[1])]
    return max(above, key=lambda row: len(row[0]), default=("", "an unknown file system"))[1]


def versions(plan: Plan) -> dict[str, str]:
    """Of each server that takes part."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(step.peer for step in plan.steps):
        if name in PEERS:
            try:
                found[name] = PEERS[name]().version()
            except (OSError, ValueError) as error:
                found[name] = f"{name}: not installed ({type(error).__name__})"
    return found


def measure(step: Step, plan: Plan) -> Figure:
    """One run, in a folder that is gone afterwards."""
    family, cell = step.family, step.cell
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    task = Task(cell, step.peer, step.round, plan.seconds, folder, is_quick=not plan.seconds)
    values: dict[str, float] = {}
    problem = ""
    try:
        values = {key: float(value) for key, value in family.run(task).items()}
        missing = [each.key for each in cell.measures if each.key not in values]
        if missing:
            problem = f"did not measure {', '.join(missing)}"
    except NotPossibleError as error:
        problem = str(error)
    except Exception as error:
        problem = f"{FAILED}{str(error) or type(error).__name__}"[:500]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Figure(family.name, cell.name, step.peer, step.round, values, problem)


def line_of(figure: Figure, step: Step) -> str:
    told = figure.problem or ", ".join(
        f"{figure.values[each.key]:.4g} {each.unit} {each.title}"
        for each in step.cell.measures
        if each.key in figure.values
    )
    return f"round {figure.round + 1}  {figure.family}: {figure.cell:48} {figure.peer:32} {told}"


def play(plan: Plan, run: Run, path: Path, budget: float | None, tell: Callable[[str], None]) -> None:
    """All steps; `run` is filled and saved after each."""
    started = time.monotonic()
    run.left_out += [LeftOut(family, cell, NO_TIME) for family, cell in plan.left_out]
    dropped: dict[tuple[str, str], None] = {}
    failures: Counter[tuple[str, str, str]] = Counter()
    try:
        for step in plan.steps:
            key = (step.family.name, step.cell.name, step.peer)
            if budget is not None and time.monotonic() - started > budget * GRACE:
                dropped.setdefault(key[:2])
                continue
            if failures[key] >= MOST_FAILURES:
                continue
            figure = measure(step, plan)
            if figure.problem:
                # What cannot be done at all is tried once.
                failures[key] += 1 if figure.problem.startswith(FAILED) else MOST_FAILURES
            run.figures.append(figure)
            run.minutes = (time.monotonic() - started) / 60
            save(run, path)
            tell(line_of(figure, step))
    except KeyboardInterrupt:
        run.left_out.append(LeftOut("all", "what had not been reached", "the run was interrupted"))
    had = {(figure.family, figure.cell) for figure in run.figures}
    run.left_out += [
        LeftOut(*key, "fewer rounds than planned: the time was up" if key in had else NO_TIME) for key in dropped
    ]
    save(run, path)
