# SPDX-License-Identifier: Apache-2.0
"""Rules between rows of mailboxes that several people read: rights, what visitors have seen, subscriptions.

Invariant: as in posthouse.store.rules. What names a mailbox, a letter or a person that is gone says nothing any more.
"""

from __future__ import annotations

from posthouse.store.rule import Rule, run

_NO_ACCOUNT = "NOT EXISTS (SELECT 1 FROM account WHERE account.id = "
_NO_MAILBOX = "NOT EXISTS (SELECT 1 FROM mailbox WHERE mailbox.id = "
_LEFT_OVER = "nothing: it is left over"
_UNSEEN = (
    "visitor_seen.mailbox = :id AND NOT EXISTS (SELECT 1 FROM placement"
    " WHERE placement.mailbox = visitor_seen.mailbox AND placement.uid = visitor_seen.uid)"
)
_OWNERS = "person = (SELECT account FROM mailbox WHERE mailbox.id = mailbox_right.mailbox)"
_THERE = (
    "EXISTS (SELECT 1 FROM mailbox WHERE mailbox.account = subscribed_name.owner"
    " AND mailbox.name = subscribed_name.name)"
)

SHARING_RULES = (
    Rule(
        "mailbox_right",
        "mailbox",
        _NO_MAILBOX + "mailbox_right.mailbox)",
        "is a right on a mailbox that is gone",
        _LEFT_OVER,
        run("DELETE FROM mailbox_right WHERE mailbox = :id"),
    ),
    Rule(
        "mailbox_right",
        "person",
        "person <> 0 AND " + _NO_ACCOUNT + "mailbox_right.person)",
        "is the right of somebody who is gone",
        _LEFT_OVER,
        run("DELETE FROM mailbox_right WHERE person = :id"),
    ),
    Rule(
        "mailbox_right",
        "mailbox",
        _OWNERS,
        "is a right of the owner, who has them all",
        _LEFT_OVER,
        run("DELETE FROM mailbox_right WHERE mailbox = :id AND " + _OWNERS),  # noqa: S608 - constants
    ),
    Rule(
        "visitor_seen",
        "mailbox",
        _NO_MAILBOX + "visitor_seen.mailbox)",
        "says what was seen of a mailbox that is gone",
        _LEFT_OVER,
        run("DELETE FROM visitor_seen WHERE mailbox = :id"),
    ),
    Rule(
        "visitor_seen",
        "person",
        _NO_ACCOUNT + "visitor_seen.person)",
        "says what somebody has seen who is gone",
        _LEFT_OVER,
        run("DELETE FROM visitor_seen WHERE person = :id"),
    ),
    Rule(
        "mailbox",
        "id",
        "EXISTS (SELECT 1 FROM visitor_seen WHERE " + _UNSEEN.replace(":id", "mailbox.id") + ")",  # noqa: S608 - constants
        "has letters that were seen and are gone",
        "visitors are told of fewer new letters than there are",
        run("DELETE FROM visitor_seen WHERE " + _UNSEEN),  # noqa: S608 - constants
    ),
    Rule(
        "subscribed_name",
        "person",
        _NO_ACCOUNT + "subscribed_name.person)",
        "is a subscription of somebody who is gone",
        _LEFT_OVER,
        run("DELETE FROM subscribed_name WHERE person = :id"),
    ),
    Rule(
        "subscribed_name",
        "owner",
        _NO_ACCOUNT + "subscribed_name.owner)",
        "is a subscription to a mailbox of somebody who is gone",
        _LEFT_OVER,
        run("DELETE FROM subscribed_name WHERE owner = :id"),
    ),
    Rule(
        "subscribed_name",
        "person",
        "person = owner AND " + _THERE,
        "is a subscription apart from the mailbox that it is for",
        "unsubscribing does not last; mended, the mailbox has it",
        run(
            "UPDATE mailbox SET is_subscribed = 1 WHERE account = :id"
            " AND name IN (SELECT name FROM subscribed_name WHERE person = :id AND owner = :id)",
            "DELETE FROM subscribed_name WHERE person = :id AND owner = :id AND " + _THERE,  # noqa: S608 - constants
        ),
    ),
    Rule(
        "keyword_spelling",
        "account",
        _NO_ACCOUNT + "keyword_spelling.account)",
        "is a keyword of an account that is gone",
        _LEFT_OVER,
        run("DELETE FROM keyword_spelling WHERE account = :id"),
    ),
)
