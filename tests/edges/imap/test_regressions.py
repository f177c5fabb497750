# SPDX-License-Identifier: Apache-2.0
"""Faults of IMAP sessions that were found and mended: each has its dialogue, and says what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import virtual_loop
from tests.transcripts.imap_dialogue import parse, run
from tests.transcripts.imap_house import HouseWorld, furnish


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imap") / "template"
    furnish(folder)
    return folder


@pytest.fixture
def play(template: Path, tmp_path: Path) -> Callable[[str], None]:
    async def played(text: str) -> None:
        world = await HouseWorld.opened(template, tmp_path / "data", {})
        try:
            await run(parse("dialogue", text), world)
        except BaseException:
            await world.abandon()
            raise
        await world.close()

    return lambda text: virtual_loop.run(played(text))


def test_a_mechanism_that_is_not_offered_was_called_a_bug_of_the_client(play: Callable[[str], None]) -> None:
    """AUTHENTICATE with an unknown mechanism was BAD [CLIENTBUG]; RFC 9051 §6.2.2 wants NO."""
    play("OPEN 1\nS1: * OK...\nC1: a AUTHENTICATE NTLM\nS1: a NO [CANNOT]...\n")


def test_a_mailbox_that_had_been_deleted_could_not_be_closed(play: Callable[[str], None]) -> None:
    """CLOSE was NO [NONEXISTENT], which is no answer to CLOSE (RFC 9051 §6.4.1), and the session stayed in it."""
    play(
        """LOGIN 1 alice Archive
LOGIN 2 alice
C2: b DELETE Archive
S2: b OK...
C1: a CLOSE
S1: a OK...
C1: c CHECK
S1: c BAD [CLIENTBUG] Select a mailbox first
"""
    )


def test_keywords_that_another_session_had_learned_first_were_not_told(play: Callable[[str], None]) -> None:
    """FLAGS and PERMANENTFLAGS came only to the session whose look brought the keyword into the shared arrays; others
    were told the letters' keywords without them, and as they are kept, not as they were spelled."""
    play(
        """PUT alice INBOX (): Subject: one\\r\\n\\r\\n
LOGIN 1 alice +IMAP4rev2 INBOX
LOGIN 2 alice +IMAP4rev2 INBOX
C2: b1 FETCH 1 FLAGS
S2: * 1 FETCH (FLAGS ())
S2: b1 OK...
C1: a STORE 1 +FLAGS.SILENT ($Important)
S1: * FLAGS (<_> $Important)
S1: * OK [PERMANENTFLAGS (<_> $Important \\*)]...
S1: a OK...
C2: b2 NOOP
S2: * FLAGS (<_> $Important)
S2: * OK [PERMANENTFLAGS (<_> $Important \\*)]...
S2: * 1 FETCH (FLAGS ($Important))
S2: b2 OK...
"""
    )


def test_a_client_that_had_not_enabled_qresync_could_select_with_it(play: Callable[[str], None]) -> None:
    """It was told VANISHED; RFC 7162 §3.2.5 wants BAD. What was selected before stays so: nothing was tried."""
    play(
        """LOGIN 1 alice INBOX
C1: a SELECT Archive (QRESYNC (1 1))
S1: a BAD [CLIENTBUG]...
C1: b CHECK
S1: b OK...
"""
    )


def test_flags_told_with_a_body_were_those_before_it_was_read(play: Callable[[str], None]) -> None:
    r"""FETCH BODY[] right behind the session's own STORE told FLAGS without the \Seen that it had just set."""
    play(
        """PUT alice INBOX (\\Seen): Subject: one\\r\\n\\r\\nHello\\r\\n
LOGIN 1 alice +IMAP4rev2 INBOX
C1: a STORE 1 -FLAGS.SILENT (\\Seen)
C1: b FETCH 1 BODY[TEXT]
S1: a OK...
S1: * 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {7}
S1: Hello
S1: )
S1: b OK...
"""
    )
