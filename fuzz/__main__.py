# SPDX-License-Identifier: Apache-2.0
"""`python -m fuzz TARGET|all [--runs N|--minutes M]`: look for inputs that break a rule; `python -m fuzz TARGET FILE`
runs one again. Exit 0 when nothing was found, 1 when something was, 2 for a mistake in the command.

With atheris the search is guided by coverage, without it (or with --plain) it mutates by a seed. What is found is
kept under fuzz/crashes and told with the command that replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from fuzz import patterns, plain, regexes, registry, rules
from fuzz.registry import CRASHES, DICTIONARIES, FOLDER, Target
from fuzz.rules import Fault

MOST_RESTARTS = 5  # of one target: libFuzzer ends at a find, and mostly finds the same again
SECONDS_PER_INPUT = 20  # a hang; what is merely slow shows in the counts
MEGABYTES = 1024
GROWN = FOLDER.parent / "var" / "fuzz"  # what a search has learnt: too much for the tree
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_BEGUN = re.compile(r"\bINITED\s+cov: (\d+)")
_COVERED = re.compile(r"\bcov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Report:
    target: str
    executed: int
    finds: list[Path]
    # Places of the server's code that the kept inputs reached, and those that were reached at the end; 0 without
    # coverage.
    edges_before: int = 0
    edges: int = 0
    is_well: bool = True  # it came to its end, or to a new find


def main() -> int:
    options = _options()
    known = registry.names()
    if options.target == "list":
        print("\n".join(known))
        return 0
    if options.target == "growth":
        return _growth(known, options.seed)
    if options.target == "patterns":
        return _patterns()
    names = known if options.target == "all" else [options.target]
    if not set(names) <= set(known):
        print(f"no target {options.target}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    if options.files:
        return _replay(names[0], options.files)
    if options.minimise:
        for name in names:
            _minimise(name)
        return 0
    CRASHES.mkdir(exist_ok=True)
    has_atheris = importlib.util.find_spec("atheris") is not None and not options.plain
    seconds = None if options.runs else options.minutes * 60 * options.jobs / len(names)
    search = partial(_covered if has_atheris else _mutated, seconds=seconds, runs=options.runs, seed=options.seed)
    found = False
    with ThreadPoolExecutor(options.jobs if has_atheris else 1) as pool:
        for report in pool.map(search, names):
            edges = f", {report.edges} edges, {report.edges - report.edges_before} new" if report.edges else ""
            print(f"{report.target:16} {report.executed:>10} inputs{edges}", flush=True)
            if not report.is_well:
                found = True
                print(f"    ENDED EARLY: a find that is kept already, or no search at all: {CRASHES}", flush=True)
            for path in report.finds:
                found = True
                print(f"    FOUND: python -m fuzz {report.target} {path}", flush=True)
    return int(found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", help="a target, `all`, `list`, `growth` (lines counted) or `patterns` (regexes)")
    parser.add_argument("files", nargs="*", type=Path, help="inputs to run once")
    parser.add_argument("--runs", type=int, help="inputs for each target")
    parser.add_argument("--minutes", type=float, default=10.0, help="over all targets (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="targets at once, with atheris")
    parser.add_argument("--plain", action="store_true", help="without atheris")
    parser.add_argument("--minimise", action="store_true", help="take from var/fuzz into the corpus what adds coverage")
    return parser.parse_args()


# --- one input, again -----------------------------------------------------------------------------


def _replay(name: str, files: list[Path]) -> int:
    """The traceback is the answer."""
    target = registry.load(name)
    for path in files:
        target.run(path.read_bytes())
        print(f"{path}: fine")
    return 0


# --- searches -------------------------------------------------------------------------------------


def _mutated(name: str, *, seconds: float | None, runs: int | None, seed: int) -> Report:
    target = registry.load(name)
    goes_on = plain.for_runs(runs) if runs else plain.for_seconds(seconds or 0.0)
    faults = plain.replay(target)
    executed, more = plain.run(target, seed=seed, goes_on=goes_on)
    return Report(name, executed, [_kept(fault) for fault in [*faults, *more]])


def _kept(fault: Fault) -> Path:
    path = CRASHES / f"{fault.target}-{hashlib.sha256(fault.data).hexdigest()[:12]}"
    path.write_bytes(fault.data)
    print(f"    {fault.place}: {fault.what[:200]}")
    return path


def _covered(name: str, *, seconds: float | None, runs: int | None, seed: int) -> Report:
    target = registry.load(name)
    grown = GROWN / name
    grown.mkdir(parents=True, exist_ok=True)
    before = set(CRASHES.iterdir())
    executed = edges = begun = 0
    is_well = False
    for _ in range(MOST_RESTARTS):
        limit = f"-runs={runs}" if runs else f"-max_total_time={int(seconds or 0)}"
        arguments = [*_common(target, seed), limit, str(grown), *_corpora(target)]
        done = _libfuzzer(name, arguments)
        count, covered = _EXECUTED.search(done.stderr), _COVERED.findall(done.stderr)
        if not begun and (first := _BEGUN.search(done.stderr)):
            begun = int(first[1])
        executed += int(count[1]) if count else 0
        edges = max(edges, *(int(edge) for edge, _ in covered), 0) if covered else edges
        if done.returncode == 0:
            is_well = True
            break
        if count is None:
            print(f"{name} ended with {done.returncode}: {done.stderr[-3000:]}", file=sys.stderr)
            break
    finds = sorted(set(CRASHES.glob(f"{name}-*")) - before)
    return Report(name, executed, finds, begun, edges, is_well=is_well or bool(finds))


def _common(target: Target, seed: int) -> list[str]:
    arguments = [
        f"-seed={seed}",
        f"-max_len={target.max_size}",
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={CRASHES}/{target.name}-",
        "-report_slow_units=60",
        "-print_final_stats=1",
    ]
    dictionary = DICTIONARIES / target.dictionary
    if target.dictionary and dictionary.is_file():
        arguments.append(f"-dict={dictionary}")
    return arguments


def _corpora(target: Target) -> list[str]:
    return [str(target.corpus)] if target.corpus.is_dir() else []


def _libfuzzer(name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz.covered", name, *arguments]
    return subprocess.run(  # noqa: S603 - ourselves
        command,
        cwd=FOLDER.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )


def _minimise(name: str) -> None:
    """Merge what the searches have learnt into the corpus: the smallest inputs that together cover the same."""
    target = registry.load(name)
    grown = GROWN / name
    if not grown.is_dir():
        return
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        _libfuzzer(name, ["-merge=1", f"-max_len={target.max_size}", folder, *_corpora(target), str(grown)])
        fresh = sorted(Path(folder).iterdir())
        known = {data for data in target.seeds() if data}
        target.corpus.mkdir(parents=True, exist_ok=True)
        for path in fresh:
            data = path.read_bytes()
            if data not in known:
                (target.corpus / path.name[:12]).write_bytes(data)
    print(f"{name}: {len(fresh)} inputs cover what there is to cover")


# --- counts ---------------------------------------------------------------------------------------


def _growth(names: list[str], seed: int) -> int:
    """Every target, several families of growing inputs each."""
    found = 0
    for name in names:
        target = registry.load(name)
        chance = Random(f"{seed} {name}")
        seeds = target.seeds()
        for _ in range(40):
            family = rules.pumped(chance.choice(seeds), chance, 1500)
            said = rules.grows_too_fast(target, family)
            if said:
                found += 1
                print(f"    FOUND: {name}: {said}: {family(1)[:120]!r}")
        print(name, flush=True)
    return int(bool(found))


def _patterns() -> int:
    """Every regular expression, every attack."""
    found = 0
    sys.setrecursionlimit(30_000)
    for pattern in patterns.every():
        said = regexes.verdict(pattern.pattern, is_anchored=pattern.is_anchored)
        if said:
            found += 1
            print(f"{pattern.module}.{pattern.name}: {said}", flush=True)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
