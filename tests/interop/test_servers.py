# SPDX-License-Identifier: Apache-2.0
"""Other servers, both ways: what they send arrives here octet for octet, and what we send arrives there."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.mail.address import parse_address
from posthouse.mail.envelope import BodyType, Envelope, ForwardPath, ReversePath
from posthouse.net.clock import SystemEntropy
from posthouse.net.smtp_transport import SmtpTransport
from posthouse.ports import Target

from . import maildir
from .dovecot import Dovecot
from .exim import Exim
from .house import ALICE, BOB, House
from .letters import ATTACHMENT, assert_carries, field, letter
from .postfix import Postfix
from .programs import PATIENCE, free_port, wait_until

pytestmark = pytest.mark.interop

SIZES = pytest.mark.parametrize("size", [0, ATTACHMENT], ids=["small", "5MiB"])
UNKNOWN = "nobody@house.test"


class Post:
    """posthouse and one neighbour, each with the way to the other."""

    def __init__(self, base: Path, name: str) -> None:
        smtp, neighbour = free_port(), free_port()
        self.house = House(base / f"house-{name}", routes={f"{name}.test": f"127.0.0.1:{neighbour}"}, smtp_port=smtp)
        lmtp = self.house.ports["lmtp"]
        self.peer: Postfix | Exim
        if name == "postfix":
            ways = {"house.test": f"smtp:[127.0.0.1]:{smtp}", "lmtp.test": f"lmtp:inet:127.0.0.1:{lmtp}"}
            self.peer = Postfix(base / name, ways, port=neighbour)
        else:
            self.peer = Exim(base / name, smtp, port=neighbour)

    def start(self) -> None:
        self.house.start()
        self.peer.start()

    def stop(self) -> None:
        self.peer.stop()
        self.house.stop()

    def hand_over(self, octets: bytes, sender: str, to: list[str], *, rcpt_options: tuple[str, ...] = ()) -> None:
        """A letter to the neighbour, as its own users would."""
        with smtplib.SMTP("127.0.0.1", self.peer.port, timeout=PATIENCE) as smtp:
            assert smtp.sendmail(sender, to, octets, mail_options=["BODY=8BITMIME"], rcpt_options=rcpt_options) == {}


@pytest.fixture(scope="module", params=["postfix", "exim"])
def post(request: pytest.FixtureRequest, base: Path) -> Iterator[Post]:
    post = Post(base, request.param)
    post.start()
    yield post
    post.stop()


@pytest.fixture
def name(post: Post) -> str:
    post.house.empty(ALICE, BOB)
    return "postfix" if isinstance(post.peer, Postfix) else "exim"


@SIZES
def test_from_the_neighbour(post: Post, name: str, size: int) -> None:
    """With STARTTLS, and by BDAT where the neighbour knows it."""
    sent = letter(f"from {name} {size}", f"dana@{name}.test", BOB, attachment=size)
    post.hand_over(sent, f"dana@{name}.test", [BOB])
    [found] = post.house.take(BOB)
    assert_carries(found, sent)
    assert field(found, "Return-Path") == f"<dana@{name}.test>"
    assert "with ESMTPS (TLS" in field(found, "Received")
    if name == "exim":
        [line] = re.findall(r"=> .*house\.test.* C=.*", post.peer.said())[-1:]
        assert " K " in line, "K: it used CHUNKING"
        assert " L " in line, "L: it used PIPELINING"


@SIZES
def test_to_the_neighbour(post: Post, name: str, size: int) -> None:
    """Submitted, queued, and sent on with STARTTLS; a large one by BDAT."""
    to = f"bob@{name}.test"
    sent = letter(f"to {name} {size}", ALICE, to, attachment=size)
    before = len(maildir.letters(post.peer.box("bob")))
    post.house.submit(sent, [to])
    found = maildir.wait_for(post.peer.box("bob"), before + 1, post.house.log)[-1]
    assert_carries(found, sent)
    assert field(found, "Return-Path") == f"<{ALICE}>"
    wait_until(lambda: post.house.queued() == [], "an empty queue")
    if name == "postfix":
        how = "bdat" if size else "data"
        wait_until(
            lambda: re.search(rf"disconnect from .* starttls=1 .*{how}=\d+", post.peer.said()), f"{how} over TLS"
        )
    else:
        lines = re.findall(rf"<= {re.escape(ALICE)} .* P=esmtps .*", post.peer.said())
        assert (" K " in lines[-1]) == bool(size), "K: it came by CHUNKING"


def test_a_dsn_for_success_goes_back_to_the_neighbour(post: Post, name: str) -> None:
    """NOTIFY=SUCCESS passes through it to us; the report that we write reaches its sender."""
    dana = f"dana@{name}.test"
    sent = letter(f"success {name}", dana, BOB)
    post.hand_over(sent, dana, [BOB], rcpt_options=("NOTIFY=SUCCESS",))
    assert_carries(post.house.take(BOB)[0], sent)
    [report] = maildir.wait_for(post.peer.box("dana"), 1, post.house.log)
    assert field(report, "Return-Path") == "<>"
    assert field(report, "Content-Type").startswith("multipart/report")
    assert b"Action: delivered" in report
    assert b"Final-Recipient: rfc822;bob@house.test" in report.replace(b"; ", b";")


def test_a_dsn_for_success_comes_from_the_neighbour(post: Post, name: str) -> None:
    """The other way: our sender asked, the neighbour delivers and reports."""
    to = f"bob@{name}.test"
    post.house.submit(letter("success", ALICE, to), [to], rcpt_options=("NOTIFY=SUCCESS",))
    [report] = post.house.take(ALICE)
    assert field(report, "Return-Path") == "<>"
    assert "report-type=delivery-status" in field(report, "Content-Type").replace('"', "")
    assert b"Action: delivered" in report
    assert to.encode() in report


def test_a_recipient_that_we_refuse_is_the_neighbours_to_report(post: Post, name: str) -> None:
    dana = f"dana@{name}.test"
    before = len(maildir.letters(post.peer.box("dana")))
    with smtplib.SMTP("127.0.0.1", post.peer.port, timeout=PATIENCE) as smtp:
        smtp.sendmail(dana, [UNKNOWN], letter("refused", dana, UNKNOWN), mail_options=["BODY=8BITMIME"])
    report = maildir.wait_for(post.peer.box("dana"), before + 1, post.house.log)[-1]
    assert b"5.1.1" in report


def test_a_recipient_that_the_neighbour_refuses_ends_in_a_dsn(post: Post, name: str) -> None:
    to = f"nobody@{name}.test"
    sent = letter("refused there", ALICE, to)
    post.house.submit(sent, [to])
    [report] = post.house.take(ALICE)
    assert field(report, "Content-Type").startswith("multipart/report")
    assert b"Action: failed" in report
    assert to.encode() in report
    assert field(sent, "Message-ID").encode() in report


# --- LMTP -----------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("post", ["postfix"], indirect=True)
def test_postfix_hands_over_by_lmtp(post: Post, name: str, size: int) -> None:
    """Exim is not here: its LMTP client speaks to programs and Unix sockets alone."""
    assert name == "postfix"
    post.house.command_once("domain", "add", "lmtp.test")
    post.house.command_once("alias", "add", "bob@lmtp.test", BOB)
    sent = letter(f"lmtp {size}", "dana@postfix.test", "bob@lmtp.test", attachment=size)
    post.hand_over(sent, "dana@postfix.test", ["bob@lmtp.test"])
    [found] = post.house.take(BOB)
    assert_carries(found, sent)
    assert "with LMTP" in field(found, "Received")


@pytest.fixture(scope="module")
def dovecot(shared_house: House, base: Path) -> Iterator[Dovecot]:
    dovecot = Dovecot(base / "dovecot", shared_house.ports["lmtp"])
    dovecot.start()
    yield dovecot
    dovecot.stop()


@SIZES
def test_dovecot_hands_over_by_lmtp(dovecot: Dovecot, house: House, size: int) -> None:
    """Its LMTP proxy is the client; the refusal of one recipient comes back through it."""
    sent = letter(f"proxy {size}", "zoe@elsewhere.test", BOB, attachment=size)
    with smtplib.LMTP("127.0.0.1", dovecot.port) as lmtp:
        refused = lmtp.sendmail("zoe@elsewhere.test", [BOB, UNKNOWN], sent, mail_options=["BODY=8BITMIME"])
    assert list(refused) == [UNKNOWN]
    assert refused[UNKNOWN][0] == 550
    assert_carries(house.take(BOB)[0], sent)


@SIZES
async def test_to_dovecot_by_lmtp(dovecot: Dovecot, size: int) -> None:
    """Our transport as LMTP client: one outcome for each recipient."""
    paths = tuple(ForwardPath(parse_address(each)) for each in ("bob@dovecot.test", "nobody@dovecot.test"))
    envelope = Envelope(ReversePath(parse_address(ALICE), body=BodyType.EIGHT_BIT), paths)
    sent = letter(f"to dovecot {size}", ALICE, "bob@dovecot.test", attachment=size)
    before = len(maildir.letters(dovecot.box("bob")))
    target = Target("127.0.0.1", "127.0.0.1", dovecot.port, helo="localhost", is_lmtp=True)
    connection = await SmtpTransport(SystemEntropy()).connect(target)
    outcomes = await connection.send(envelope, [sent])
    await connection.close()
    assert [str(outcome.status)[0] for outcome in outcomes] == ["2", "5"]
    assert_carries(maildir.wait_for(dovecot.box("bob"), before + 1, dovecot.log)[-1], sent)
