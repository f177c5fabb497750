# SPDX-License-Identifier: Apache-2.0
"""`make bench`: posthouse beside Postfix + Dovecot in alternating runs; Markdown and JSON into bench/results/.

Load: Postfix's smtp-source for SMTP, bench/pop3_load.py for POP3. "Delivered" means in the mailbox.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench import memory, processes
from bench.peers import PASSWORD, USER, Peer, PostfixDovecot, Posthouse, missing_programs

RESULTS = Path(__file__).parent / "results"
POP3_USERS = [f"user{number}@bench.test" for number in range(10)]


@dataclass(frozen=True)
class Cell:
    """One SMTP load: sessions at once, octets a letter, letters per connection (or one)."""

    name: str
    sessions: int
    octets: int
    letters: int
    keeps_connection: bool = True


CELLS = (
    Cell("1 KiB, 10 sessions", 10, 1024, 4000),
    Cell("10 KiB, 1 session", 1, 10240, 1000),
    Cell("10 KiB, 10 sessions", 10, 10240, 4000),
    Cell("10 KiB, 10 sessions, one letter a connection", 10, 10240, 2000, keeps_connection=False),
    Cell("10 KiB, 50 sessions", 50, 10240, 5000),
    Cell("100 KiB, 10 sessions", 10, 102400, 1500),
)
SLOW_PEER_SHARE = 4  # peers that are known to be slower get a quarter of the letters, so that a run stays short


def smtp_source(cell: Cell, letters: int, port: int, to: str) -> None:
    command = ["smtp-source", "-s", str(cell.sessions), "-m", str(letters), "-l", str(cell.octets)]
    if cell.keeps_connection:
        command.append("-d")
    command += ["-f", "sender@elsewhere.test", "-t", to, f"127.0.0.1:{port}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def run_smtp(peer: Peer, cell: Cell) -> dict[str, float]:
    """Letters delivered per second and CPU milliseconds per letter."""
    letters = cell.letters if isinstance(peer, Posthouse) else cell.letters // SLOW_PEER_SHARE
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        peer.start(Path(folder) / "server")
        try:
            smtp_source(cell, min(100, letters), peer.smtp_port, USER)  # warm up: processes, caches
            processes.wait_until(lambda: peer.delivered() >= min(100, letters), 60, "the warm-up")
            before = peer.delivered()
            cpu = sum(map(processes.cpu_seconds, peer.root()))
            started = time.perf_counter()
            smtp_source(cell, letters, peer.smtp_port, USER)
            processes.wait_until(lambda: peer.delivered() >= before + letters, 120, "delivery")
            seconds = time.perf_counter() - started
            used = sum(map(processes.cpu_seconds, peer.root())) - cpu
            rss, pss = (sum(values) for values in zip(*map(processes.memory, peer.root()), strict=True))
        finally:
            peer.stop()
    return {"rate": letters / seconds, "cpu_ms": used / letters * 1000, "rss_mib": rss, "pss_mib": pss}


def has_letters(peer: Peer, user: str) -> bool:
    return peer.delivered(user) >= 10


def run_pop3(peer: Peer, sessions: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        peer.start(Path(folder) / "server")
        try:
            if isinstance(peer, Posthouse):
                for user in POP3_USERS:
                    program = str(Path(sys.executable).with_name("posthouse"))
                    command = [program, "account", "add", user, "--password-stdin", "--data", f"{folder}/server"]
                    subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True)
            for user in POP3_USERS:
                smtp_source(Cell("", 1, 10240, 10), 10, peer.smtp_port, user)
            for user in POP3_USERS:  # Postfix hands over in the background
                processes.wait_until(partial(has_letters, peer, user), 60, f"the letters of {user}")
            load = [sys.executable, "-m", "bench.pop3_load", str(peer.pop3_port), ",".join(POP3_USERS), PASSWORD]
            subprocess.run([*load, "10"], check=True, capture_output=True)
            cpu = sum(map(processes.cpu_seconds, peer.root()))
            seconds = float(subprocess.run([*load, str(sessions)], check=True, capture_output=True).stdout)
            used = sum(map(processes.cpu_seconds, peer.root())) - cpu
        finally:
            peer.stop()
    return {"rate": sessions / seconds, "cpu_ms": used / sessions * 1000}


def measure(rounds: int, quick: bool) -> dict[str, dict[str, list[dict[str, float]]]]:
    results: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    cells = [cell for cell in CELLS if cell.name.startswith("10 KiB, ")] if quick else CELLS
    for number in range(rounds):
        for cell in cells:
            for peer in (PostfixDovecot(), Posthouse()):
                results[cell.name][peer.name].append(run_smtp(peer, cell))
                show(number, cell.name, peer.name, results[cell.name][peer.name][-1])
        readers = (
            (PostfixDovecot(), 600),
            (PostfixDovecot(name="Dovecot, high-performance mode", is_high_performance=True), 1500),
            (Posthouse(), 4000),
        )
        for reader, sessions in readers:
            results["POP3 sessions, 10 at once"][reader.name].append(run_pop3(reader, sessions))
            show(number, "POP3", reader.name, results["POP3 sessions, 10 at once"][reader.name][-1])
    return results


def show(number: int, cell: str, peer: str, values: dict[str, float]) -> None:
    print(
        f"round {number + 1}  {cell:45} {peer:32} {values['rate']:8.0f}/s  {values['cpu_ms']:6.2f} ms CPU", flush=True
    )


def spread(values: list[float]) -> str:
    return f"{median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def report(results: dict[str, dict[str, list[dict[str, float]]]], idle: dict[str, float]) -> str:
    lines = [
        f"Measured {time.strftime('%Y-%m-%d')} on {platform.platform()}, Python {platform.python_version()}, ",
        "2 cores shared with the load generator; median (min-max) of alternating runs; `make bench` repeats it.",
        "",
        "| load | server | per second | CPU ms each | ratio to posthouse's rate | CPU of posthouse ÷ its |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for cell, peers in results.items():
        ours = peers["posthouse"]
        for name, runs in peers.items():
            rate = median(run["rate"] for run in ours) / median(run["rate"] for run in runs)
            cpu = median(run["cpu_ms"] for run in ours) / max(0.001, median(run["cpu_ms"] for run in runs))
            rates = spread([run["rate"] for run in runs])
            cost = f"{median(run['cpu_ms'] for run in runs):.2f}"
            lines.append(f"| {cell} | {name} | {rates} | {cost} | {rate:.1f}x | {cpu:.2f} |")
    lines += ["", "| memory of posthouse | MiB |", "| --- | --- |"]
    lines += [f"| {name} | {value:.0f} |" for name, value in idle.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the 10 KiB cells only")
    arguments = parser.parse_args()
    missing = missing_programs()
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}; run tools/install_interop.sh bench as root")
    results = measure(arguments.rounds, arguments.quick)
    idle = memory.measure()
    text = report(results, idle)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "smtp-pop3.md").write_text(text)
    (RESULTS / "smtp-pop3.json").write_text(json.dumps({"results": results, "memory": idle}, indent=1))
    print(text)


if __name__ == "__main__":
    main()
