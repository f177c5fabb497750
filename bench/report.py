# SPDX-License-Identifier: Apache-2.0
"""The report of a run as Markdown with its charts: every cell, every server, what failed and what was left out."""

from __future__ import annotations

from bench.cells import CEILING, US, Cell, Family, Measure, Target
from bench.charts import Group, Row, chart, number
from bench.results import Run
from bench.spreads import Results, Spread

CPU = "cpu_ms"


def shown(spread: Spread | None, unit: str = "") -> str:
    """`1,234/s (1,200–1,300)`."""
    if spread is None:
        return "–"
    gap = "" if unit.startswith("/") or unit in ("", "x") else " "
    middle = f"{number(spread.middle)}{gap}{unit}"
    return middle if spread.low == spread.high else f"{middle} ({number(spread.low)}–{number(spread.high)})"


class Report:
    def __init__(self, run: Run, families: list[Family]) -> None:
        self._run = run
        self._families = families
        self._results = Results(run.figures)

    def markdown(self, charts_at: str = "") -> str:
        """`charts_at`: the folder of the charts as the text's links say it, with its slash."""
        parts = [self._head(), self._aims(), self._slower()]
        parts += [self._family(family, charts_at) for family in self._families if self._was_measured(family)]
        parts.append(self._left_out())
        return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"

    def _was_measured(self, family: Family) -> bool:
        return any(self._results.peers(family.name, cell.name) for cell in family.cells)

    def _head(self) -> str:
        run = self._run
        versions = "; ".join(dict.fromkeys(run.versions.values()))
        load = f"about {number(run.seconds)} s of load each" if run.seconds else "the smallest counts: a try-out"
        return (
            f"Measured on {run.date} in {run.minutes:.0f} minutes with `{run.command}`: {run.rounds} alternating "
            f"rounds, {load}. {run.machine}. {versions}.\n\n"
            "Figures are medians (least–most). A ratio is posthouse's value divided by the peer's, round by round. The "
            "load generator shares the machine, and only ratios mean anything elsewhere."
        )

    # --- aims -------------------------------------------------------------------------------------

    def _aims(self) -> str:
        rows = [
            self._aim(family, cell, target)
            for family in self._families
            for cell in family.cells
            for target in cell.targets
        ]
        rows = [row for row in rows if row]
        if not rows:
            return ""
        head = ["### Aims", "", "| load | beside | aim | measured | |", "| --- | --- | --- | --- | --- |"]
        return "\n".join([*head, *rows])

    def _aim(self, family: Family, cell: Cell, target: Target) -> str:
        measure = next((each for each in cell.measures if each.key == target.key), None)
        assert measure is not None, f"{cell.name}: a target for {target.key}, which it does not measure"
        if target.peer:
            spread = self._results.ratio(family.name, cell.name, target.peer, target.key)
        else:
            spread = self._results.spread(family.name, cell.name, US, target.key)
        if not self._results.peers(family.name, cell.name):
            return ""  # the whole cell was left out, which is told at the end
        unit = "x" if target.peer else measure.unit
        word = "at least" if measure.is_more_better else "at most"
        what = f"{measure.title}: {word} {shown(Spread.of([target.ratio]), unit)}"
        if spread is None:
            return f"| {cell.name} | {target.peer or '(alone)'} | {what} | – | not measured |"
        is_met = spread.middle >= target.ratio if measure.is_more_better else spread.middle <= target.ratio
        verdict = "reached" if is_met else "**falls short**"
        return f"| {cell.name} | {target.peer or '(alone)'} | {what} | {shown(spread, unit)} | {verdict} |"

    def _slower(self) -> str:
        """Where a peer beats us in what a cell is about: told in one place."""
        found: list[str] = []
        for family in self._families:
            for cell in family.cells:
                main = cell.measures[0]
                problems = self._results.problems(family.name, cell.name, US)
                found += [f"- {cell.name}: posthouse itself: {problem}" for problem in problems]
                for peer in self._results.peers(family.name, cell.name):
                    if peer == CEILING or peer.startswith(US):
                        continue
                    ratio = self._results.ratio(family.name, cell.name, peer, main.key)
                    if ratio and (ratio.middle < 1 if main.is_more_better else ratio.middle > 1):
                        found.append(f"- {cell.name}, {main.title}: {shown(ratio, 'x')} of {peer}'s")
        if all(figure.peer.startswith(US) for figure in self._run.figures):
            return ""
        return "### Where a peer is better\n\n" + ("\n".join(found) if found else "In no cell that was measured.")

    # --- one family -------------------------------------------------------------------------------

    def _family(self, family: Family, charts_at: str) -> str:
        parts = [f"### {family.title}", family.note.strip()]
        parts += [f"![{words}]({charts_at}{name})" for name, words, _ in self.charts_of(family)]
        for cell in family.cells:
            if self._results.peers(family.name, cell.name):
                parts.append(self._table(family, cell))
        return "\n\n".join(part for part in parts if part)

    def _table(self, family: Family, cell: Cell) -> str:
        found = self._results.peers(family.name, cell.name)
        peers = [peer for peer in family.peers_of(cell) if peer in found]
        compared = [cell.measures[0], *(measure for measure in cell.measures[1:] if measure.key == CPU)]
        has_others = any(peer not in (US, CEILING) for peer in peers)
        heads = ["server", *(measure.title for measure in cell.measures)]
        if has_others:
            heads += [f"posthouse's {'CPU' if measure.key == CPU else measure.title} ÷ its" for measure in compared]
        lines = [f"**{cell.name}**", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        for peer in peers:
            cells = [
                shown(self._results.spread(family.name, cell.name, peer, measure.key), measure.unit)
                for measure in cell.measures
            ]
            if has_others:
                cells += [self._compared(family, cell, peer, measure) for measure in compared]
            lines.append(f"| {' | '.join([peer, *cells])} |")
        for peer in peers:
            problems = self._results.problems(family.name, cell.name, peer)
            lines += [f"\n{peer}: {problem}" for problem in problems]
        return "\n".join(lines)

    def _compared(self, family: Family, cell: Cell, peer: str, measure: Measure) -> str:
        if peer == US:
            return ""
        return shown(self._results.ratio(family.name, cell.name, peer, measure.key), "x")

    # --- charts -----------------------------------------------------------------------------------

    def charts_of(self, family: Family) -> list[tuple[str, str, str]]:
        """(file name, what it shows, SVG text) of each chart of a family."""
        found: list[tuple[str, str, str]] = []
        ratios = self._ratio_groups(family, main=True)
        if ratios:
            words = "posthouse beside each server: how many times better"
            about = "right of 1: posthouse is better; dot: median of the rounds, line: least to most"
            svg = chart(f"{family.title}: {words}", about, ratios, unit="x", line=1.0)
            found.append((f"{family.name}.svg", words, svg))
        cpu = self._ratio_groups(family, main=False)
        if cpu:
            words = "CPU of posthouse beside each server: how many times less"
            about = "right of 1: posthouse needs less CPU; dot: median of the rounds, line: least to most"
            svg = chart(f"{family.title}: {words}", about, cpu, unit="x", line=1.0)
            found.append((f"{family.name}-cpu.svg", words, svg))
        if not ratios:
            found += self._value_charts(family)
        return found

    def _ratio_groups(self, family: Family, *, main: bool) -> list[Group]:
        groups: list[Group] = []
        for cell in family.cells:
            measures = cell.measures[:1] if main else [each for each in cell.measures[1:] if each.key == CPU]
            for measure in measures:
                rows: list[Row] = []
                for peer in family.peers_of(cell):
                    ratio = self._results.ratio(family.name, cell.name, peer, measure.key)
                    if ratio and peer not in (US, CEILING):
                        rows.append(Row(peer, ratio if measure.is_more_better else ratio.inverse()))
                if rows:
                    groups.append(Group(f"{cell.name} ({measure.title})", tuple(rows)))
        return groups

    def _value_charts(self, family: Family) -> list[tuple[str, str, str]]:
        """For what posthouse is measured in alone: the values of each cell's first measure, by unit."""
        by_unit: dict[str, dict[str, list[Row]]] = {}
        for cell in family.cells:
            measure = cell.measures[0]
            for peer in family.peers_of(cell):
                spread = self._results.spread(family.name, cell.name, peer, measure.key)
                if spread and spread.low > 0:
                    label = cell.name if peer == US else f"{cell.name}, {peer}"
                    by_unit.setdefault(measure.unit, {}).setdefault(measure.title, []).append(Row(label, spread))
        found: list[tuple[str, str, str]] = []
        for at, (unit, titles) in enumerate(by_unit.items()):
            groups = [Group(title, tuple(rows)) for title, rows in titles.items()]
            name = f"{family.name}-{at + 1}.svg" if at else f"{family.name}.svg"
            words = ", ".join(titles)
            svg = chart(
                f"{family.title}: {words}",
                "dot: median of the rounds, line: least to most",
                groups,
                unit=unit if unit.startswith("/") else f" {unit}".rstrip(),
            )
            found.append((name, words, svg))
        return found

    def _left_out(self) -> str:
        rows = [f"- {each.family}, {each.cell}: {each.reason}" for each in self._run.left_out]
        return "\n".join(["### Not measured in this run", "", *rows]) if rows else ""
