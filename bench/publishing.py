# SPDX-License-Identifier: Apache-2.0
"""Puts the report of a run into docs/performance.md, between two marks: figures there are never copied by hand."""

from __future__ import annotations

from pathlib import Path

from bench.cells import Family
from bench.report import Report
from bench.results import Run, save

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
CHARTS = DOCS / "performance"
BEGIN = "<!-- measured: begin (written by `python -m bench --publish`; do not edit) -->"
END = "<!-- measured: end -->"


def replaced(page: str, measured: str) -> str:
    """The page with what stands between the marks replaced. ValueError when it has no marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks its marks: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{measured.strip()}\n\n{END}{after}"


def publish(run: Run, families: list[Family], page: Path = PAGE, charts: Path = CHARTS) -> None:
    """The report into the page; its charts and the figures themselves beside it."""
    report = Report(run, families)
    page.write_text(replaced(page.read_text("utf-8"), report.markdown(f"{charts.name}/")), "utf-8")
    charts.mkdir(exist_ok=True)
    for old in charts.glob("*.svg"):
        old.unlink()
    for family in families:
        for name, _, svg in report.charts_of(family):
            (charts / name).write_text(svg)
    save(run, charts / "results.json")
