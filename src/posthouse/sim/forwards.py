# SPDX-License-Identifier: Apache-2.0
"""What must be true of letters that an address passes on to another server of the world, and of reports about them.

Invariant checked: such a letter arrives under a reverse-path of the host that passed it on, and is believed as it was
before; nobody of the world refuses a report that comes back to such a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from posthouse.mail.header import scan_header
from posthouse.mailauth.results import parse_results
from posthouse.sim.ledger import Finding, Ledger, Way, bare
from posthouse.sim.records import Records
from posthouse.sim.report_facts import is_reader

NOT_KNOWN = "temperror"  # DNS did not answer
REWRITTEN = "SRS"  # how the local part of such a reverse-path begins


def is_way_back(address: str) -> bool:
    """Whether it stands for the sender of a letter that was passed on."""
    return address.upper().startswith(REWRITTEN)


def servers(way: Way) -> list[str]:
    """The domains that a letter passes, each as often as it is handed over."""
    found: list[str] = []
    for address in way:
        domain = address.rpartition("@")[2]
        if found[-1:] != [domain]:
            found.append(domain)
    return found


def badly_passed_on(way: Way, sender: str, prefix: bytes, reverse_path: str) -> str | None:
    """Of a letter of an honest author in its last mailbox. `prefix`: what the last server has written before it."""
    passed = servers(way)
    if len(passed) < 2:
        return None
    host = passed[-2]
    if len(passed) == 2 and sender.rpartition("@")[2] == host:  # its own letters it need not rewrite
        is_right = reverse_path == sender
    else:
        is_right = is_way_back(reverse_path) and reverse_path.endswith(f"@mail.{host}")
    if not is_right:
        return f"was passed on by {host} and came from <{reverse_path}>"
    found = parse_results(scan_header(prefix).raw(b"authentication-results")[0])
    results = {each.method: each.result for each in found.statements} if found is not None else {}
    if is_way_back(reverse_path) and results.get("spf") == "fail":
        return f"was passed on by {host}, and SPF fails for <{reverse_path}>"
    believed = results.get("dmarc"), results.get("arc")
    if "pass" not in believed and NOT_KNOWN not in believed:
        return f"was passed on by {host} and is not believed: {results}"
    return None


# --- reports on their way -------------------------------------------------------------------------


def subjects(records: Mapping[str, Records]) -> dict[str, str]:
    """What the reports of all servers are about, both by Message-ID: a report is made in the trace of its letter."""
    found: dict[str, str] = {}
    for rows in records.values():
        letters = {each.trace: bare(each.message_id) for each in rows.queued.values() if each.reverse_path}
        for each in rows.queued.values():
            if not each.reverse_path and each.trace in letters:
                found[bare(each.message_id)] = letters[each.trace]
    return found


def in_vain(records: Mapping[str, Records], about: Mapping[str, str]) -> Iterator[str]:
    """Letters of which a report was sent to another server and came back: it is answered by nothing."""
    for rows in records.values():
        for row in rows.history:
            if not row.reverse_path and any(state in ("failed", "expired") for state in row.states):
                yield about.get(bare(row.message_id), "")


def turned_away(ledger: Ledger, records: Mapping[str, Records], about: Mapping[str, str]) -> Iterator[Finding]:
    """Reports that came back the way of their letter, and were refused for good there; reports about mail that were
    asked for, and refused by a server of ours."""
    strange = {each.domain for each in ledger.strangers}
    for server, rows in records.items():
        for attempt in rows.attempts:
            for outcome, recipients in attempt.results:
                if not outcome.is_failed or outcome.reply is None or outcome.reply.code < 500:
                    continue
                for address in recipients:
                    is_asked_for = is_reader(address) and address.rpartition("@")[2] not in strange
                    if not is_way_back(address) and not is_asked_for:
                        continue
                    letter = about.get(rows.message_id(attempt.letter or 0), "")
                    sent = ledger.letters.get(letter)
                    if sent is None or not ledger.was_disabled(sent.sender, sent.at):
                        text = f"{server}: the report about <{letter}> to {address} is refused: {outcome.diagnostic}"
                        yield Finding(text, letter)
