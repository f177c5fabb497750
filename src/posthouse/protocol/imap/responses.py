# SPDX-License-Identifier: Apache-2.0
"""Untagged responses about the session and its mailboxes (RFC 9051 §7): values in, whole lines out.

Invariant: each function gives complete responses with their CRLF, fit for `ImapServer.tell`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from posthouse.mail.number_set import Ranges
from posthouse.protocol.imap.events import StatusItem
from posthouse.protocol.imap.strings import astring, line_text, listed, mailbox, nstring, ranges_text, string

Extended = Sequence[tuple[str, bytes]]  # names and values of a LIST response's extended data


def ok(text: str, code: str = "") -> bytes:
    """`* OK [code] text`: what SELECT tells with response codes."""
    return f"* OK [{code}] {line_text(text)}\r\n".encode() if code else f"* OK {line_text(text)}\r\n".encode()


def no(text: str, code: str = "") -> bytes:
    """A warning (RFC 9051 §7.1.2)."""
    return f"* NO [{code}] {line_text(text)}\r\n".encode() if code else f"* NO {line_text(text)}\r\n".encode()


def capability(words: Iterable[str]) -> bytes:
    return f"* CAPABILITY {' '.join(words)}\r\n".encode("ascii")


def enabled(words: Iterable[str]) -> bytes:
    """Only what was not enabled before (RFC 5161 §3.2)."""
    return " ".join(("* ENABLED", *words)).encode("ascii") + b"\r\n"


def identity(parameters: Mapping[str, str | None] | None) -> bytes:
    """ID (RFC 2971 §3.2)."""
    if not parameters:
        return b"* ID NIL\r\n"
    pairs = (
        string(name.encode()) + b" " + nstring(None if value is None else value.encode())
        for name, value in parameters.items()
    )
    return b"* ID (" + b" ".join(pairs) + b")\r\n"


# --- the selected mailbox -----------------------------------------------------------------------------


def flags(words: Iterable[str]) -> bytes:
    return b"* FLAGS " + listed(words) + b"\r\n"


def exists(count: int) -> bytes:
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    """RFC 3501 §7.3.2."""
    return b"* %d RECENT\r\n" % count


def expunges(numbers: Sequence[int]) -> bytes:
    """In the order given; each number is what it is after those before it are gone (RFC 9051 §7.5.1)."""
    return b"".join(map(b"* %d EXPUNGE\r\n".__mod__, numbers))


def vanished(uids: Ranges, *, is_earlier: bool = False) -> bytes:
    """RFC 7162 §3.2.10."""
    return (
        b"* VANISHED (EARLIER) %b\r\n" % ranges_text(uids) if is_earlier else b"* VANISHED %b\r\n" % ranges_text(uids)
    )


# --- mailboxes ---------------------------------------------------------------------------------------


def list_row(
    name: str,
    attributes: Iterable[str],
    *,
    delimiter: str = "/",
    is_utf8: bool = False,
    extended: Extended = (),
) -> bytes:
    """LIST. Values of `extended` are written already, such as b'("SUBSCRIBED")' for CHILDINFO."""
    row = b"* LIST %b %b %b" % (listed(attributes), _delimiter(delimiter), mailbox(name, is_utf8=is_utf8))
    if extended:
        row += b" (" + b" ".join(astring(tag.encode()) + b" " + value for tag, value in extended) + b")"
    return row + b"\r\n"


def child_info(options: Iterable[str]) -> tuple[str, bytes]:
    """CHILDINFO: a child of the mailbox matches these selection options (RFC 5258 §3.5)."""
    return "CHILDINFO", b"(" + b" ".join(string(option.encode()) for option in options) + b")"


def old_name(name: str, *, is_utf8: bool = False) -> tuple[str, bytes]:
    """OLDNAME (RFC 9051 §6.3.9.7)."""
    return "OLDNAME", b"(" + mailbox(name, is_utf8=is_utf8) + b")"


def lsub_row(name: str, attributes: Iterable[str], *, delimiter: str = "/", is_utf8: bool = False) -> bytes:
    return b"* LSUB %b %b %b\r\n" % (listed(attributes), _delimiter(delimiter), mailbox(name, is_utf8=is_utf8))


def _delimiter(character: str) -> bytes:
    """ "" where a name has no levels: NIL."""
    return string(character.encode()) if character else b"NIL"


def status(name: str, values: Mapping[StatusItem, int | str | None], *, is_utf8: bool = False) -> bytes:
    """A text stands in parentheses (MAILBOXID); None is NIL (APPENDLIMIT without a limit)."""
    words = " ".join(f"{item.value} {_status_value(value)}" for item, value in values.items())
    return b"* STATUS %b (%b)\r\n" % (mailbox(name, is_utf8=is_utf8), words.encode("ascii"))


def _status_value(value: int | str | None) -> str:
    match value:
        case None:
            return "NIL"
        case str():
            return f"({value})"
        case int():
            return str(value)


def namespace(*kinds: Sequence[tuple[str, str]], is_utf8: bool = False) -> bytes:
    """Personal, other users', shared; each any number of (prefix, delimiter) (RFC 2342 §5)."""
    return b"* NAMESPACE " + b" ".join(_namespaces(kind, is_utf8=is_utf8) for kind in kinds) + b"\r\n"


def _namespaces(kind: Sequence[tuple[str, str]], *, is_utf8: bool) -> bytes:
    if not kind:
        return b"NIL"
    rows = (b"(%b %b)" % (_quoted_name(prefix, is_utf8=is_utf8), _delimiter(delimiter)) for prefix, delimiter in kind)
    return b"(" + b"".join(rows) + b")"


def _quoted_name(prefix: str, *, is_utf8: bool) -> bytes:
    """A string, not an astring: `mailbox` may give an atom."""
    name = mailbox(prefix, is_utf8=is_utf8)
    return name if name.startswith((b'"', b"{")) else b'"' + name + b'"'


# --- rights and quota --------------------------------------------------------------------------------


def acl(name: str, rights: Iterable[tuple[str, str]], *, is_utf8: bool = False) -> bytes:
    """Identifiers and their rights (RFC 4314 §3.6)."""
    words = [b"* ACL", mailbox(name, is_utf8=is_utf8)]
    for identifier, letters in rights:
        words += (_identifier(identifier, is_utf8=is_utf8), astring(letters.encode()))
    return b" ".join(words) + b"\r\n"


def list_rights(name: str, identifier: str, always: str, optional: Iterable[str], *, is_utf8: bool = False) -> bytes:
    """`always` is granted whatever is said; the others may be, each of them together (RFC 4314 §3.7)."""
    words = [b"* LISTRIGHTS", mailbox(name, is_utf8=is_utf8), _identifier(identifier, is_utf8=is_utf8)]
    words += (astring(letters.encode()) for letters in (always, *optional))
    return b" ".join(words) + b"\r\n"


def my_rights(name: str, letters: str, *, is_utf8: bool = False) -> bytes:
    """RFC 4314 §3.8."""
    return b"* MYRIGHTS %b %b\r\n" % (mailbox(name, is_utf8=is_utf8), astring(letters.encode()))


def _identifier(identifier: str, *, is_utf8: bool) -> bytes:
    return astring(identifier.encode("utf-8", "replace"), is_utf8=is_utf8)


def quota(root: str, resources: Iterable[tuple[str, int, int]], *, is_utf8: bool = False) -> bytes:
    """Name, usage and limit of each resource (RFC 9208 §4.2.1); STORAGE in units of 1024 octets."""
    rows = " ".join(f"{name} {usage} {limit}" for name, usage, limit in resources)
    return b"* QUOTA %b (%b)\r\n" % (_root(root, is_utf8=is_utf8), rows.encode("ascii"))


def quota_root(name: str, roots: Iterable[str], *, is_utf8: bool = False) -> bytes:
    words = [b"* QUOTAROOT", mailbox(name, is_utf8=is_utf8), *(_root(root, is_utf8=is_utf8) for root in roots)]
    return b" ".join(words) + b"\r\n"


def _root(root: str, *, is_utf8: bool) -> bytes:
    return astring(root.encode("utf-8", "replace"), is_utf8=is_utf8)
