# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' arithmetic, planning, report and charts: what a reader is told is what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.cells import CEILING, Cell, Family, Figure, Measure, NotPossibleError, Target, Task
from bench.charts import Group, Row, Scale, chart, number
from bench.report import Report, shown
from bench.results import LeftOut, Run
from bench.spreads import Results, Spread

from bench import planning, publishing, results, running

RATE = Measure("rate", "letters", "/s")
CPU = Measure("cpu_ms", "CPU a letter", "ms", is_more_better=False)
CELL = Cell("ten", (RATE, CPU), 1, targets=(Target("Other", "rate", 5), Target("Other", "cpu_ms", 0.15)))
RARE = Cell("rare", (RATE,), 9, ("posthouse", "Third"), most_rounds=1)


def nothing(task: Task) -> dict[str, float]:
    raise AssertionError("a plan runs nothing")


FAMILY = Family("smtp", "SMTP", (CELL, RARE), ("posthouse", "Other", "Third"), nothing, "A note.")


def figure(peer: str, number: int, problem: str = "", **values: float) -> Figure:
    return Figure("smtp", "ten", peer, number, values, problem)


def a_run(*figures: Figure, left_out: tuple[LeftOut, ...] = ()) -> Run:
    return Run(
        date="2026-11-23",
        command="python -m bench",
        machine="2 cores",
        families=["smtp"],
        rounds=3,
        seconds=3,
        versions={"posthouse": "posthouse 1", "Other": "Other 2"},
        minutes=12,
        figures=list(figures),
        left_out=list(left_out),
    )


FAST = (
    figure("posthouse", 0, rate=100, cpu_ms=1),
    figure("Other", 0, rate=50, cpu_ms=10),
    figure("posthouse", 1, rate=60, cpu_ms=1),
    figure("Other", 1, rate=10, cpu_ms=10),
    figure("posthouse", 2, rate=90, cpu_ms=1),
    figure("Other", 2, rate=15, cpu_ms=8),
)


def test_a_ratio_is_made_round_by_round_and_not_of_the_medians() -> None:
    """The medians' ratio is 90 / 15 = 6 by chance; the rounds' ratios are 2, 6 and 6."""
    assert Results(FAST).ratio("smtp", "ten", "Other", "rate") == Spread(2, 6, 6)


def test_a_round_that_failed_on_one_side_is_in_no_ratio() -> None:
    figures = (*FAST[:2], FAST[2], figure("Other", 1, "failed: x"))
    found = Results(figures)
    assert found.ratio("smtp", "ten", "Other", "rate") == Spread(2, 2, 2)
    assert found.problems("smtp", "ten", "Other") == ["failed: x"]


def test_a_spread_needs_a_value() -> None:
    with pytest.raises(ValueError, match="empty"):
        Spread.of([])


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0"), (0.0123, "0.0123"), (1.0, "1"), (5.25, "5.25"), (12.34, "12.3"), (99.96, "100"), (1234.4, "1,234")],
)
def test_numbers_have_three_figures_that_count(value: float, told: str) -> None:
    assert number(value) == told


def test_a_spread_is_told_with_its_ends() -> None:
    assert shown(Spread(1, 2, 3), "/s") == "2/s (1–3)"
    assert shown(Spread(2, 2, 2), "MiB") == "2 MiB"
    assert shown(None) == "–"


def test_all_of_a_plan_round_by_round_the_peers_taking_turns() -> None:
    plan = planning.make([FAMILY], 2, 3.0, None)
    assert [(step.cell.name, step.peer, step.round) for step in plan.steps] == [
        ("ten", "posthouse", 0),
        ("ten", "Other", 0),
        ("ten", "Third", 0),
        ("rare", "posthouse", 0),
        ("rare", "Third", 0),
        ("ten", "Other", 1),
        ("ten", "Third", 1),
        ("ten", "posthouse", 1),
    ]


def test_a_budget_shortens_the_loads_before_it_leaves_cells_out() -> None:
    whole = planning.make([FAMILY], 3, 3.0, None)
    shorter = planning.make([FAMILY], 3, 3.0, whole.cost * 0.9)
    assert (shorter.rounds, shorter.seconds, shorter.left_out) == (3, 2.0, ())
    assert shorter.cost <= whole.cost * 0.9


def test_a_small_budget_keeps_what_matters_most_and_tells_the_rest() -> None:
    plan = planning.make([FAMILY], 3, 3.0, 45.0)
    assert {step.cell.name for step in plan.steps} == {"ten"}
    assert plan.left_out == (("smtp", "rare"),)
    assert plan.cost <= 45.0


def test_no_time_at_all_measures_nothing_and_tells_everything() -> None:
    plan = planning.make([FAMILY], 3, 3.0, 1.0)
    assert plan.steps == ()
    assert plan.left_out == (("smtp", "ten"), ("smtp", "rare"))


def test_the_report_says_where_an_aim_is_missed() -> None:
    text = Report(a_run(*FAST), [FAMILY]).markdown()
    assert "| ten | Other | letters: at least 5x | 6x (2–6) | reached |" in text
    slow = [figure(each.peer, each.round, rate=1.0, cpu_ms=1.0) for each in FAST]
    assert "**falls short**" in Report(a_run(*slow), [FAMILY]).markdown()


def test_an_aim_whose_peer_failed_stands_in_the_report() -> None:
    """It vanished from the table, as if it had never been aimed at."""
    figures = (figure("posthouse", 0, rate=100, cpu_ms=1), figure("Other", 0, problem="failed: it fell over"))
    text = Report(a_run(*figures), [FAMILY]).markdown()
    assert "| ten | Other | letters: at least 5x | – | not measured |" in text


def test_where_posthouse_itself_failed_no_cell_is_told_as_good() -> None:
    figures = (figure("posthouse", 0, problem="failed: it fell over"), figure("Other", 0, rate=50, cpu_ms=10))
    text = Report(a_run(*figures), [FAMILY]).markdown()
    assert "- ten: posthouse itself: failed: it fell over" in text
    assert "In no cell that was measured." not in text


def test_the_report_says_where_a_peer_is_better_but_not_the_client_alone() -> None:
    figures = (*FAST, figure("Third", 0, rate=200, cpu_ms=1), figure(CEILING, 0, rate=900, cpu_ms=0))
    family = Family("smtp", "SMTP", (CELL,), ("posthouse", "Other", "Third", CEILING), nothing)
    text = Report(a_run(*figures), [family]).markdown()
    better = text.split("### Where a peer is better")[1].split("###")[0]
    assert better.strip() == "- ten, letters: 0.5x of Third's"
    assert f"| {CEILING} | 900/s |" in text


def test_what_failed_and_what_was_left_out_stands_in_the_report() -> None:
    figures = (*FAST, figure("Third", 0, "not installed"))
    text = Report(a_run(*figures, left_out=(LeftOut("smtp", "rare", "no time"),)), [FAMILY]).markdown()
    assert "| Third | – | – | – | – |" in text
    assert "Third: not installed" in text
    assert "- smtp, rare: no time" in text


def test_results_survive_their_file(tmp_path: Path) -> None:
    run = a_run(*FAST, left_out=(LeftOut("smtp", "rare", "no time"),))
    results.save(run, tmp_path / "new" / "results.json")
    assert results.load(tmp_path / "new" / "results.json") == run


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"results": {}}')
    with pytest.raises(ValueError, match="not a results file"):
        results.load(tmp_path / "old.json")


def test_charts_are_whole_svg_with_every_row_inside() -> None:
    report = Report(a_run(*FAST), [FAMILY])
    charts = report.charts_of(FAMILY)
    assert [name for name, _, _ in charts] == ["smtp.svg", "smtp-cpu.svg"]
    for _, _, svg in charts:
        root = ET.fromstring(svg)
        width = float(root.attrib["width"])
        xs = [float(dot.attrib["cx"]) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
        assert xs
        assert all(0 < x < width for x in xs)
        words = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "Other" in words


def test_less_cpu_is_drawn_as_better() -> None:
    """A tenth of the CPU stands at ten times less, on the same side as ten times faster."""
    svg = Report(a_run(*FAST), [FAMILY]).charts_of(FAMILY)[1][2]
    assert "10x (8 to 10)" in svg


def test_words_in_charts_cannot_break_them() -> None:
    row = Row("<a> & b", Spread(1, 2, 3))
    svg = chart('"t" <', "s & s", [Group("g<", (row,))], unit="x", line=1.0)
    assert ET.fromstring(svg).attrib["aria-label"] == '"t" <'


def test_a_scale_holds_all_values_and_its_ticks_lie_within() -> None:
    scale = Scale([Spread(0.5, 3, 40)], always=1.0)
    assert scale.x(0.5) < scale.x(1) < scale.x(3) < scale.x(40)
    assert scale.ticks() == [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]


def test_alone_posthouse_is_shown_by_its_values() -> None:
    cell = Cell("growth", (RATE,), 1, ("posthouse",))
    family = Family("mailbox", "Mailboxes", (cell,), ("posthouse",), nothing)
    run = a_run(Figure("mailbox", "growth", "posthouse", 0, {"rate": 1234.0}))
    report = Report(run, [family])
    assert "1,234/s" in report.charts_of(family)[0][2]
    assert "÷" not in report.markdown().split("### Mailboxes")[1]
    assert "Where a peer is better" not in report.markdown()


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"before\n{publishing.BEGIN}\nold\n{publishing.END}\nafter\n"
    found = publishing.replaced(page, "new\n")
    assert found == f"before\n{publishing.BEGIN}\n\nnew\n\n{publishing.END}\nafter\n"
    assert publishing.replaced(found, "new") == found


def test_a_page_without_marks_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="lacks its marks"):
        publishing.replaced("text", "new")


def test_publishing_puts_text_charts_and_figures_beside_each_other(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# P\n{publishing.BEGIN}\n{publishing.END}\n")
    charts = tmp_path / "performance"
    publishing.publish(a_run(*FAST), [FAMILY], page, charts)
    assert "](performance/smtp.svg)" in page.read_text()
    assert sorted(path.name for path in charts.iterdir()) == ["results.json", "smtp-cpu.svg", "smtp.svg"]


def played(run_family: Callable[[Task], dict[str, float]], path: Path, rounds: int = 3) -> Run:
    cell = Cell("ten", (RATE,), 1)
    family = Family("smtp", "SMTP", (cell,), ("posthouse",), run_family)
    run = a_run()
    running.play(planning.make([family], rounds, 1.0, None), run, path / "results.json", None, lambda _: None)
    return run


def test_a_run_that_fails_is_a_figure_with_its_reason_and_is_tried_once_more(tmp_path: Path) -> None:
    def fails(_task: Task) -> dict[str, float]:
        raise RuntimeError("no answer")

    run = played(fails, tmp_path)
    assert [figure.problem for figure in run.figures] == ["failed: no answer"] * 2


def test_what_a_server_cannot_do_is_tried_once(tmp_path: Path) -> None:
    def cannot(_task: Task) -> dict[str, float]:
        raise NotPossibleError("not installed")

    assert [figure.problem for figure in played(cannot, tmp_path).figures] == ["not installed"]


def test_a_run_has_an_empty_folder_that_is_gone_afterwards(tmp_path: Path) -> None:
    seen: list[Path] = []

    def works(task: Task) -> dict[str, float]:
        assert not list(task.folder.iterdir())
        (task.folder / "file").touch()
        seen.append(task.folder)
        return {"rate": 1}

    assert len(played(works, tmp_path).figures) == 3
    assert not any(folder.exists() for folder in seen)


def test_an_interrupted_run_keeps_what_was_measured(tmp_path: Path) -> None:
    def interrupted(task: Task) -> dict[str, float]:
        if task.round:
            raise KeyboardInterrupt
        return {"rate": 7}

    played(interrupted, tmp_path)
    kept = results.load(tmp_path / "results.json")
    assert [figure.values for figure in kept.figures] == [{"rate": 7}]
    assert kept.left_out[-1].reason == "the run was interrupted"
