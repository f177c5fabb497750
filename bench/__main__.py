# SPDX-License-Identifier: Apache-2.0
"""`make bench`: posthouse beside its peers in alternating runs; JSON, Markdown and charts into bench/results/.

python -m bench --quick                      a try-out: every cell, the smallest counts, one round
python -m bench --budget-minutes 20          as much as fits, the most important cells first
python -m bench --families smtp --cells "10 KiB"
python -m bench --publish                    put the last results into docs/performance.md
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench import planning, publishing, running
from bench.cells import Family
from bench.registry import MODULES, families
from bench.report import Report
from bench.results import Run, load

RESULTS = Path(__file__).parent / "results"
RESULTS_FILE = "results.json"
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default=",".join(MODULES), help=f"of {', '.join(MODULES)}; all by default")
    parser.add_argument("--cells", default="", help="only cells whose name contains this")
    parser.add_argument("--peers", default="", help="only these servers, beside posthouse (names with commas between)")
    parser.add_argument("--rounds", type=int, default=0, help=f"{planning.DEFAULT_ROUNDS} by default")
    parser.add_argument("--seconds", type=float, default=planning.DEFAULT_SECONDS, help="of load in one run, about")
    parser.add_argument("--budget-minutes", "--minutes-budget", type=float, default=None, help="for everything")
    parser.add_argument("--quick", action="store_true", help="the smallest counts: shows that it works, nothing else")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--plan", action="store_true", help="tell what would be measured and how long, and end")
    parser.add_argument("--report", action="store_true", help="write the report of the last results anew, and end")
    parser.add_argument("--publish", action="store_true", help="put the last results into docs/performance.md, and end")
    return parser.parse_args()


def chosen(given: argparse.Namespace) -> list[Family]:
    """The families with the cells and servers that were asked for."""
    found: list[Family] = []
    peers = [name.strip() for name in given.peers.split(",") if name.strip()]
    for family in families([name for name in given.families.split(",") if name]):
        cells = tuple(cell for cell in family.cells if given.cells in cell.name)
        if peers:
            cells = tuple(
                replace(cell, peers=tuple(p for p in family.peers_of(cell) if p == "posthouse" or p in peers))
                for cell in cells
            )
        if cells:
            found.append(replace(family, cells=cells))
    return found


def tell(plan: planning.Plan) -> None:
    print(f"{len(plan.steps)} runs, {plan.rounds} rounds, about {plan.cost / 60:.0f} minutes")
    for family, cell in plan.left_out:
        print(f"no time for {family}: {cell}")


def write(run: Run, wanted: list[Family], into: Path) -> str:
    """The report and its charts; the text of the report."""
    report = Report(run, wanted)
    into.mkdir(parents=True, exist_ok=True)
    for family in wanted:
        for name, _, svg in report.charts_of(family):
            (into / name).write_text(svg)
    text = report.markdown()
    (into / "report.md").write_text("# Results\n\n" + text)
    return text


def main() -> int:
    given = arguments()
    if given.publish or given.report:
        run = load(given.into / RESULTS_FILE)
        known = families(run.families)
        if given.publish:
            publishing.publish(run, known)
        print(write(run, known, given.into))
        return 0
    try:
        wanted = chosen(given)
    except ValueError as error:
        sys.exit(str(error))
    budget = None if given.budget_minutes is None else given.budget_minutes * 60
    rounds = given.rounds or (1 if given.quick else planning.DEFAULT_ROUNDS)
    plan = planning.make(wanted, rounds, 0.0 if given.quick else given.seconds, budget)
    tell(plan)
    if given.plan:
        return 0
    if running.file_system(Path(tempfile.gettempdir())) in MEMORY_FILE_SYSTEMS:
        sys.exit(f"{tempfile.gettempdir()} is in memory, where a sync costs nothing: set TMPDIR to a folder on a disk")
    run = Run(
        date=time.strftime("%Y-%m-%d"),
        command=" ".join(["python -m bench", *sys.argv[1:]]),
        machine=running.machine(),
        families=[family.name for family in wanted],
        rounds=plan.rounds,
        seconds=plan.seconds,
        versions=running.versions(plan),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all servers too, and keeps what was measured
    running.play(plan, run, given.into / RESULTS_FILE, budget, lambda line: print(line, flush=True))
    print("\n" + write(run, wanted, given.into))
    print(f"written: {RESULTS_FILE}, report.md and charts in {given.into}")
    return 1 if any(figure.problem and figure.peer == "posthouse" for figure in run.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
