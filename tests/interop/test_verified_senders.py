# SPDX-License-Identifier: Apache-2.0
"""A Postfix that asks for every sender before it takes a letter from it, as double-bounce@ its own name: letters that
aliases pass on get there."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import maildir
from .house import DOMAIN, House
from .letters import letter
from .postfix import Postfix
from .programs import PATIENCE, free_port

pytestmark = pytest.mark.interop

RETURNS = "returns.test"
AWAY = f"away@{DOMAIN}"
SETTINGS = """\
smtpd_sender_restrictions = reject_unverified_sender
address_verify_map =
address_verify_poll_count = 20
address_verify_poll_delay = 1s
"""


@pytest.fixture(scope="module")
def post(base: Path) -> Iterator[tuple[House, Postfix]]:
    smtp, there = free_port(), free_port()
    house = House(
        base / "verified-house",
        routes={"postfix.test": f"127.0.0.1:{there}"},
        settings=f'[forwarding]\ndomain = "{RETURNS}"\n',
        smtp_port=smtp,
    )
    house.command("alias", "add", AWAY, "bob@postfix.test")
    postfix = Postfix(
        base / "verified-postfix",
        dict.fromkeys((DOMAIN, RETURNS), f"smtp:[127.0.0.1]:{smtp}"),
        port=there,
        settings=SETTINGS,
    )
    house.start()
    postfix.start()
    yield house, postfix
    postfix.stop()
    house.stop()


def send(house: House, sender: str, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"], timeout=PATIENCE) as smtp:
        assert smtp.sendmail(sender, [to], letter("verified", sender, to), mail_options=["BODY=8BITMIME"]) == {}


def test_a_rewritten_sender_is_found_by_a_probe(post: tuple[House, Postfix]) -> None:
    house, postfix = post
    send(house, "a@author.test", AWAY)
    found = maildir.wait_for(postfix.box("bob"), 1, postfix.log)[0]
    assert re.match(rb"Return-Path: <SRS0=[a-z2-7=]+author\.test=a@returns\.test>", found), found[:500]
    assert re.search(r"to=<SRS0=[^>]*>, .*status=deliverable", postfix.said())


def test_a_sender_that_nobody_has_rewritten_here_is_not(post: tuple[House, Postfix]) -> None:
    _, postfix = post
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=PATIENCE) as smtp:
        smtp.ehlo()
        smtp.mail(f"SRS0=aaaaaaaa=aa=author.test=a@{RETURNS}")
        code, said = smtp.rcpt("bob@postfix.test")
    assert (code // 100, b"was not made here" in said) in ((4, True), (5, True)), said
