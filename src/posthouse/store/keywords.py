# SPDX-License-Identifier: Apache-2.0
"""How an account's keywords are spelled. Invariant: case makes no difference (RFC 9051 §2.3.2), and a keyword is shown
as the client that used it first wrote it, in every mailbox of the account."""

from __future__ import annotations

from collections.abc import Collection

from posthouse.ports import Reader, Transaction
from posthouse.store.flags import unpack_keywords
from posthouse.store.refusal import MailboxRefusal, Reason

# An untagged FLAGS lists the keywords of a mailbox: a thousand are 20 KB. People have ten; a program that makes a new
# one for each letter must stop somewhere.
MAX_WORDS = 1_000

_ENTER = (
    "INSERT INTO keyword_spelling (account, keyword, spelling) VALUES (:account, :keyword, :spelling)"
    " ON CONFLICT (account, keyword) DO NOTHING"
)
_USED = (
    "SELECT DISTINCT placement.keywords FROM mailbox JOIN placement ON placement.mailbox = mailbox.id"
    " WHERE mailbox.account = :account AND placement.keywords <> ''"
)


def spellings(reader: Reader, account: int) -> dict[str, str]:
    """Keyword in lower case -> as it is shown. One that is not there is shown in lower case."""
    rows = reader.rows("SELECT keyword, spelling FROM keyword_spelling WHERE account = :account", account=account)
    return dict(rows)


def remember(tx: Transaction, account: int, words: Collection[str]) -> None:
    """Keep the spelling of keywords that are about to be used. Raise `MailboxRefusal` LIMIT for too many."""
    added = sum(tx.run(_ENTER, account=account, keyword=word.lower(), spelling=word) for word in words)
    if added and _count(tx, account) > MAX_WORDS:
        _forget_unused(tx, account, words)
        if _count(tx, account) > MAX_WORDS:
            raise MailboxRefusal(Reason.LIMIT, f"an account has at most {MAX_WORDS} keywords")


def _count(reader: Reader, account: int) -> int:
    row = reader.row("SELECT COUNT(*) FROM keyword_spelling WHERE account = :account", account=account)
    return 0 if row is None else int(row[0])


def _forget_unused(tx: Transaction, account: int, wanted: Collection[str]) -> None:
    used = {word.lower() for word in wanted}
    for (text,) in tx.rows(_USED, account=account):
        used.update(unpack_keywords(text))
    tx.many(
        "DELETE FROM keyword_spelling WHERE account = :account AND keyword = :keyword",
        [{"account": account, "keyword": word} for word in spellings(tx, account) if word not in used],
    )
