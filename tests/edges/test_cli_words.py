# SPDX-License-Identifier: Apache-2.0
"""What people read: the queue, a letter's story, tables, times; printed from the API's documents alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from posthouse.edges.cli import process, queue, stories, tables

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def outcome(status: str, text: str, reply: tuple[int, str, str] | None = None) -> dict[str, Any]:
    said = {"code": reply[0], "status": reply[1], "text": reply[2]} if reply else None
    return {"status": status, "diagnostic": text, "host": "", "address": "", "tls": "", "reply": said}


ATTEMPT = {
    "at": NOW - 120,
    "next_hop": "bob.test",
    "host": "mx.bob.test",
    "address": "192.0.2.1",
    "tls": "TLSv1.3",
    "results": [
        [outcome("4.2.0", "deferred", (450, "4.2.0", "greylisted")), ["bob@bob.test"]],
        [outcome("5.1.1", "unknown"), ["a@bob.test", "b@bob.test", "c@bob.test", "d@bob.test"]],
    ],
}
WAITING = {
    "address": "bob@bob.test",
    "next_hop": "bob.test",
    "state": "due",
    "attempts": 1,
    "outcome": outcome("4.2.0", "deferred"),
    "due_at": NOW + 300,
    "expires_at": NOW + 432000,
    "at": None,
}
FINISHED = {**WAITING, "address": "carl@alice.test", "next_hop": "local", "state": "delivered", "at": NOW - 180}
STORY = {
    "id": "7",
    "trace": "aabb",
    "message_id": "1@alice.test",
    "reverse_path": "alice@alice.test",
    "size": 2048,
    "received_at": NOW - 180,
    "source": "alice@alice.test",
    "recipients": [WAITING, FINISHED],
    "attempts": [ATTEMPT],
    "verdict": None,
}


def test_a_story_is_told_in_the_order_of_time() -> None:
    assert list(stories.story_lines(STORY, NOW)) == [
        "Letter 1@alice.test",
        "  queue id 7, log trace aabb, 2.0 KiB",
        "  2027-01-15 07:57:00  submitted by alice@alice.test",
        "  2027-01-15 07:57:00  delivered: carl@alice.test (here)",
        "  2027-01-15 07:58:00  tried mx.bob.test [192.0.2.1], TLSv1.3",
        "                         bob@bob.test: 450 4.2.0 greylisted",
        "                         a@bob.test, b@bob.test, c@bob.test and 1 more: 5.1.1 unknown",
        "  now                  due: bob@bob.test, 1 attempt",
        "                       next attempt 2027-01-15 08:05:00, in 5 min",
        "                       given up 2027-01-20 08:00:00, in 5 d",
    ]


def test_what_was_found_about_a_letter_stands_below_its_arrival() -> None:
    def told(method: str, result: str, reason: str = "", **properties: str) -> dict[str, Any]:
        pairs = [[*name.split("_"), value] for name, value in properties.items()]
        return {"method": method, "result": result, "reason": reason, "properties": pairs}

    verdict = {
        "action": "quarantine",
        "local": "",
        "statements": [
            told("iprev", "pass", policy_iprev="192.0.2.7"),
            told("spf", "softfail", "~all of a.test matches", smtp_mailfrom="a.test"),
            told("dkim", "fail", "the body was changed", header_d="a.test", header_s="s1"),
            told("dkim", "none"),
            told("arc", "pass"),
            told("dmarc", "fail", header_from="a.test", policy_dmarc="quarantine"),
        ],
    }
    lines = list(stories.story_lines({**STORY, "verdict": verdict, "recipients": [], "attempts": []}, NOW))
    assert [line.strip() for line in lines[3:]] == [
        "reverse name: pass for 192.0.2.7",
        "SPF: softfail for a.test (~all of a.test matches)",
        "DKIM: fail, signed by a.test (the body was changed)",
        "DKIM: none, the letter is not signed",
        "ARC: pass",
        "DMARC: fail for a.test, whose owner asks for quarantine",
        "put among the junk",
    ]
    assert list(stories.verdict_lines({**verdict, "action": "accept", "local": "why"}))[-1].endswith(
        "all the same: why"
    )


@pytest.mark.parametrize(
    ("source", "sender", "told"),
    [
        ("", "a@a.test", "received from a@a.test"),
        ("report", "", "written by this server (a report to a sender)"),
        ("import", "", "imported"),
        ("192.0.2.7 (mx.a.test)", "", "received from <>, brought by 192.0.2.7 (mx.a.test)"),
    ],
)
def test_where_a_letter_came_from(source: str, sender: str, told: str) -> None:
    story = {**STORY, "source": source, "reverse_path": sender, "recipients": [], "attempts": []}
    assert list(stories.story_lines(story, NOW))[2].endswith("  " + told)


def test_a_letter_in_the_queue_tells_when_each_is_tried_next(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {**STORY, "open_recipients": 1, "states": {"due": 1}, "next_attempt_at": NOW + 300}
    down = {"next_hop": "bob.test", "failures": 3, "down_until": NOW + 900}
    detail = {"entry": entry, "recipients": [WAITING], "destinations": [down], "attempts": [ATTEMPT]}
    told = "\n".join(queue._letter_lines(detail, NOW))
    assert "To          bob@bob.test, due, 1 attempt" in told
    assert "  next      2027-01-15 08:15:00, in 15 min (bob.test does not answer)" in told
    assert "  2027-01-15 07:58:00  tried mx.bob.test" in told
    queue._tell_list([entry], {"letters": 3}, NOW)
    printed = capsys.readouterr().out
    assert "alice@alice.test" in printed
    assert "due:1" in printed
    assert "(3 letters in the queue" in printed


def test_piped_tables_are_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    tables.table(("name", ">n"), [("x" * 200, 5), ("[red]y", None)], none="nothing")
    head, rule, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "n"]
    assert set(rule) == {"─"}
    assert first == "x" * 200 + "   5"
    assert second == "[red]y"
    tables.table(("name",), [], none="nothing")
    assert capsys.readouterr().out == "nothing\n"


@pytest.mark.parametrize(
    ("octets", "told"),
    [(None, ""), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (3 << 50, "3072.0 TiB")],
)
def test_sizes(octets: int | None, told: str) -> None:
    assert tables.size(octets) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (7200, "2 h"), (86400 * 5, "5 d")],
)
def test_spans(seconds: float, told: str) -> None:
    assert tables.span(seconds) == told


def test_times_say_how_long_ago() -> None:
    assert tables.ago(NOW - 180, NOW) == "2027-01-15 07:57:00, 3 min ago"
    assert tables.ago(NOW + 60, NOW).endswith(", in 1 min")
    assert tables.ago(NOW, NOW).endswith(", now")
    assert tables.ago(None, NOW) == ""


def test_the_welcome_has_what_a_mail_program_asks_for() -> None:
    from pathlib import Path

    told = "\n".join(process.welcome(Path("x"), process.TRIAL, process.TRIAL_ADMIN, "s3cret"))
    assert "incoming     POP3, server 127.0.0.1, port 2995, SSL/TLS" in told
    assert "outgoing     SMTP, server 127.0.0.1, port 2465, SSL/TLS" in told
    assert "--auth-user admin@posthouse.test --auth-password s3cret" in told
    again = "\n".join(process.welcome(Path("x"), {"pop3s": ["*:995"], "submission": []}, "", ""))
    assert "server localhost, port 995" in again
    assert "password  " not in again
    assert "swaks" not in again
