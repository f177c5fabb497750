# SPDX-License-Identifier: Apache-2.0
"""Which letters belong together: thread ids by hashes of message ids, as RFC 8621 §3 suggests.

Two letters of an account share a thread when a message id occurs in both (Message-ID, In-Reply-To, References)
and their base subjects are equal but for white space and case. Both conditions are one 63-bit key: the hash of
message id and base subject. A letter's thread never changes: where it would join two, it joins the older one.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from hashlib import blake2b

from posthouse.mail.encoded_word import codec_name
from posthouse.ports import Reader, Transaction

MAX_REFERENCES = 8  # the last ones are the nearest ancestors; longer chains are found through these
KEYS = MAX_REFERENCES + 2  # with Message-ID and In-Reply-To
MAX_SUBJECT = 1_000  # octets; what differs only later does not part threads, and the loops below stay short
MAX_ROUNDS = 50  # leaders taken off one subject: RFC 5256 repeats until nothing changes, a mail loop adds 30 "Re: "

_ENCODED_WORD = re.compile(rb"=\?([!-)+->@-~]+)(?:\*[!->@-~]*)?\?([bBqQ])\?([!->@-~]*)\?=")  # RFC 2047 §2, RFC 2231 §5
_BETWEEN_WORDS = re.compile(rb"(\?=)[ \t\r\n]+(?==\?[!->@-~]+\?[bBqQ]\?)")  # RFC 2047 §6.2: not shown
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")

# RFC 5256 §5. Beyond its "re", "fw" and "fwd": what common clients write in other languages.
_BLOB = r"\[[^\[\]]*\]\s*"
_REPLY = "re|fwd?|aw|wg|sv|vs|rv|tr|antw|odp|回复|答复|转发|回覆|轉寄"
# (Blobs before it go one by one, as all leading blobs do: the same result without looking at all of them again.)
_LEADER = re.compile(rf"\s*(?:{_REPLY})\s*(?:{_BLOB})?[:：]\s*|\s+", re.IGNORECASE)
_LEADING_BLOB = re.compile(_BLOB)
_TRAILER = "(fwd)"
_SPACE = re.compile(r"\s+")


def base_subject(subject: bytes) -> str:
    """The subject without what replying, forwarding and mailing lists add (RFC 5256 §2.1), folded, without spaces.

    `subject` is the raw field value; octets that are no UTF-8 and charsets nobody knows are kept as Latin-1.
    """
    text = _decoded(subject[:MAX_SUBJECT])
    for _ in range(MAX_ROUNDS):
        before = text
        text = text.rstrip()
        while text[-len(_TRAILER) :].lower() == _TRAILER:
            text = text[: -len(_TRAILER)].rstrip()
        leader = _LEADER.match(text)
        if leader is not None:
            text = text[leader.end() :]
        elif text[:1] == "[":
            if text[:5].lower() == "[fwd:" and text[-1] == "]":
                text = text[5:-1]
            else:
                blob = _LEADING_BLOB.match(text)
                if blob is not None and blob.end() < len(text):
                    text = text[blob.end() :]
        if text == before:
            break
    return _SPACE.sub("", text).casefold()


def _decoded(raw: bytes) -> str:
    if b"=?" not in raw:
        return _text(raw, "utf-8")
    # Adjacent words are joined before their charset is undone: senders cut multi-octet characters in two.
    parts: list[str] = []
    pending, charset, end = b"", "", 0
    joined = _BETWEEN_WORDS.sub(rb"\1", raw)
    for word in _ENCODED_WORD.finditer(joined):
        named = word[1].decode("ascii").lower()
        if word.start() > end or named != charset:
            parts += (_text(pending, charset or "utf-8"), _text(joined[end : word.start()], "utf-8"))
            pending, charset = b"", named
        pending += _word_octets(word[2], word[3])
        end = word.end()
    parts += (_text(pending, charset or "utf-8"), _text(joined[end:], "utf-8"))
    return "".join(parts)


def _word_octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return _Q_OCTET.sub(lambda octet: bytes((int(octet[1], 16),)), text.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(text + b"==")  # senders forget padding; too much of it does no harm
    except binascii.Error:
        return text


def _text(octets: bytes, charset: str) -> str:
    name = codec_name(charset)  # the text codecs of Python that are no charsets warn, or take quadratic time
    try:
        return octets.decode(name or "latin-1")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def keys(message_id: bytes, in_reply_to: bytes, references: Sequence[bytes], subject: bytes) -> tuple[int, ...]:
    """The letter's 63-bit keys, without repetition, its own message id's first; empty when it names no id at all."""
    named = dict.fromkeys((message_id, in_reply_to, *references[-MAX_REFERENCES:]))
    named.pop(b"", None)
    if not named:
        return ()
    base = b"\0" + base_subject(subject).encode("utf-8", "surrogatepass")
    return tuple(
        int.from_bytes(blake2b(each + base, digest_size=8).digest(), "big") & 0x7FFF_FFFF_FFFF_FFFF for each in named
    )


_FIND_ONE = "SELECT thread FROM thread_reference WHERE account = :account AND hash = :hash"
_FIND = (
    "SELECT MIN(thread) FROM thread_reference WHERE account = :account"
    " AND hash IN (:k0, :k1, :k2, :k3, :k4, :k5, :k6, :k7, :k8, :k9)"
)
_ENTER = (
    "INSERT INTO thread_reference (account, hash, thread) VALUES (:account, :hash, :thread)"
    " ON CONFLICT (account, hash) DO NOTHING"
)


def join(tx: Transaction, account: int, letter_keys: tuple[int, ...], new_thread: int) -> int:
    """The thread of a letter with these keys, from now on findable by each of them; `new_thread` if they are new."""
    if not letter_keys:
        return new_thread
    if len(letter_keys) == 1:  # a letter that begins a conversation: one statement, as its key is new
        if tx.run(_ENTER, account=account, hash=letter_keys[0], thread=new_thread):
            return new_thread
        row = tx.row(_FIND_ONE, account=account, hash=letter_keys[0])
        assert row is not None  # it stood in the way
        return int(row[0])
    padded = letter_keys + letter_keys[:1] * (KEYS - len(letter_keys))  # one statement text for any number
    row = tx.row(_FIND, account=account, **{f"k{index}": key for index, key in enumerate(padded)})
    thread = new_thread if row is None or row[0] is None else int(row[0])
    tx.many(_ENTER, [{"account": account, "hash": key, "thread": thread} for key in letter_keys])
    return thread


def enter(tx: Transaction, account: int, letter_keys: tuple[int, ...], thread: int) -> None:
    """Make a thread findable by these keys where they are not known yet (its letter comes back from a note)."""
    tx.many(_ENTER, [{"account": account, "hash": key, "thread": thread} for key in letter_keys])


def emails(reader: Reader, thread: int) -> list[int]:
    """Ids of the emails of a thread, by the time of their arrival."""
    rows = reader.rows("SELECT id FROM email WHERE thread = :thread ORDER BY received_at, id", thread=thread)
    return [row[0] for row in rows]


def purge(tx: Transaction, account: int, after: int = -1, page: int = 1_000) -> int | None:
    """Forget up to `page` keys of threads that have no email any more, going through them in order of their hash.

    Return where to go on (pass it as `after`), or None at the end.
    """
    rows = tx.rows(
        "SELECT hash FROM thread_reference WHERE account = :account AND hash > :after ORDER BY hash LIMIT :page",
        account=account,
        after=after,
        page=page,
    )
    if not rows:
        return None
    last = int(rows[-1][0])
    tx.run(
        "DELETE FROM thread_reference WHERE account = :account AND hash > :after AND hash <= :last"
        " AND NOT EXISTS (SELECT 1 FROM email WHERE email.thread = thread_reference.thread)",
        account=account,
        after=after,
        last=last,
    )
    return last if len(rows) == page else None
