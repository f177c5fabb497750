# SPDX-License-Identifier: Apache-2.0
"""Domains, accounts, aliases and how an address is resolved to those who get its letters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.mail.address import Address, Domain, parse_address
from posthouse.outcome import BAD_MAILBOX, MAILBOX_DISABLED, ROUTING_LOOP, TOO_MANY_RECIPIENTS, Refusal
from posthouse.store import aliases, directory, lookup
from posthouse.store.lookup import MAX_ALIAS_DEPTH, MAX_ALIAS_TARGETS, House, Resolution, fold
from tests.store.plain_database import PlainDatabase

HOUSE = House("mail.example.test")
NOW = 1_700_000_000.0


def at(text: str) -> Address:
    return parse_address(text)


class Town:
    """A database with short verbs."""

    def __init__(self) -> None:
        self.database = PlainDatabase()
        self.run = self.database.run
        self.now = NOW

    def domain(self, name: str, alias_of: str | None = None, catch_all: str | None = None) -> int:
        behind = None if alias_of is None else Domain.parse(alias_of)
        target = None if catch_all is None else at(catch_all)
        return self.run(lambda tx: directory.add_domain(tx, Domain.parse(name), NOW, alias_of=behind, catch_all=target))

    def account(self, address: str, **more: object) -> int:
        self.now += 1
        return self.run(lambda tx: directory.add_account(tx, at(address), self.now, **more))  # type: ignore[arg-type]  # keyword pass-through

    def alias(self, address: str, *targets: str) -> None:
        self.run(lambda tx: aliases.add_alias(tx, at(address), [at(each) for each in targets]))

    def disable(self, account: int) -> None:
        self.run(lambda tx: directory.set_active(tx, account, is_active=False))

    def resolve(self, address: str, house: House = HOUSE) -> Resolution:
        return self.database.look(lambda reader: lookup.resolve(reader, house, at(address)))

    def reaches(self, address: str) -> list[str]:
        found = self.resolve(address)
        return [each.name for each in found.accounts] + [str(each) for each in found.remote]


@pytest.fixture
def town() -> Town:
    town = Town()
    town.domain("example.test")
    return town


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    text = caught.value.text
    assert text.isascii()
    assert text.isprintable()
    assert caught.value.status.is_permanent
    return text


# --- resolution ---------------------------------------------------------------------------------------


def test_an_account_gets_its_letters_whatever_the_case_and_detail(town: Town) -> None:
    account = town.account("Alice@example.test", quota=1000, language="zh", is_admin=True)
    found = town.resolve("aLICE+News@EXAMPLE.test")
    assert found.status is None
    assert not found.is_alias
    assert found.domain_is_local
    (only,) = found.accounts
    assert (only.id, only.name, only.quota, only.language, only.is_admin) == (
        account,
        "Alice@example.test",
        1000,
        "zh",
        True,
    )
    assert only.is_active
    assert only.inbox > 0


def test_an_exact_address_goes_before_a_detail_form(town: Town) -> None:
    town.account("a@example.test")
    town.account("a+b@example.test")
    assert town.reaches("a+b@example.test") == ["a+b@example.test"]
    assert town.reaches("a+c@example.test") == ["a@example.test"]


def test_sub_addressing_can_be_switched_off_or_use_another_character(town: Town) -> None:
    town.account("a@example.test")
    assert town.resolve("a+b@example.test", House("m.test", "")).status == BAD_MAILBOX
    assert town.resolve("a-b@example.test", House("m.test", "-")).status is None
    assert town.resolve("+b@example.test").status == BAD_MAILBOX


def test_unknown_and_disabled_recipients_are_refused_for_their_reason(town: Town) -> None:
    town.disable(town.account("gone@example.test"))
    assert town.resolve("nobody@example.test").status == BAD_MAILBOX
    assert town.resolve("gone@example.test").status == MAILBOX_DISABLED
    assert town.resolve("gone@example.test").accounts == ()


def test_a_foreign_address_is_itself(town: Town) -> None:
    found = town.resolve("x@elsewhere.test")
    assert not found.domain_is_local
    assert found.remote == (at("x@elsewhere.test"),)
    assert found.status is None


def test_a_domain_alias_shares_all_addresses(town: Town) -> None:
    town.domain("example.net", alias_of="example.test")
    town.account("a@example.test")
    town.alias("team@example.test", "a@example.test", "x@elsewhere.test")
    assert town.reaches("a@example.net") == ["a@example.test"]
    assert town.reaches("TEAM+x@example.net") == ["a@example.test", "x@elsewhere.test"]


def test_international_domains_and_local_parts(town: Town) -> None:
    town.domain("例子.测试")
    town.account("用户@例子.测试")
    assert town.reaches("用户@例子.测试") == ["用户@xn--fsqu00a.xn--0zwm56d"]
    town.account("Jos\u00e9@example.test")
    assert town.reaches("jose\u0301@example.test") == ["Jos\u00e9@example.test"]  # NFC


def test_aliases_nest_keep_their_order_and_reach_everybody_once(town: Town) -> None:
    for name in "abc":
        town.account(f"{name}@example.test")
    town.alias("inner@example.test", "c@example.test", "b@example.test", "x@elsewhere.test")
    town.alias("outer@example.test", "b@example.test", "inner@example.test", "X@elsewhere.test", "a+d@example.test")
    assert town.reaches("outer@example.test") == [
        "b@example.test",
        "c@example.test",
        "a@example.test",
        "x@elsewhere.test",
    ]
    assert town.resolve("outer@example.test").is_alias


def test_alias_loops_end(town: Town) -> None:
    town.account("a@example.test")
    town.alias("one@example.test", "two@example.test")
    town.alias("two@example.test", "one@example.test")
    assert town.resolve("one@example.test").status == ROUTING_LOOP
    town.alias("two@example.test", "a@example.test")
    assert town.reaches("one@example.test") == ["a@example.test"]


def test_an_alias_skips_those_who_get_no_letters(town: Town) -> None:
    town.account("a@example.test")
    town.disable(town.account("off@example.test"))
    town.alias("team@example.test", "off@example.test", "missing@example.test", "a@example.test")
    assert town.reaches("team@example.test") == ["a@example.test"]
    town.alias("empty@example.test", "off@example.test")
    assert town.resolve("empty@example.test").status == MAILBOX_DISABLED


def test_depth_and_number_of_targets_are_bounded(town: Town) -> None:
    town.account("end@example.test")
    for step in range(MAX_ALIAS_DEPTH + 1):
        target = f"d{step + 1}@example.test" if step < MAX_ALIAS_DEPTH else "end@example.test"
        town.alias(f"d{step}@example.test", target)
    assert town.resolve("d0@example.test").status == ROUTING_LOOP
    assert town.reaches("d1@example.test") == ["end@example.test"]
    for half in "ab":
        town.alias(f"{half}@example.test", *(f"{half}{n}@elsewhere.test" for n in range(MAX_ALIAS_TARGETS)))
    assert len(town.resolve("a@example.test").remote) == MAX_ALIAS_TARGETS
    town.alias("both@example.test", "a@example.test", "b@example.test")
    found = town.resolve("both@example.test")
    assert found.status == TOO_MANY_RECIPIENTS
    assert found.remote == ()


def test_a_catch_all_takes_unknown_names_only(town: Town) -> None:
    town.account("a@example.test")
    town.account("b@example.test")
    town.disable(town.account("off@example.test"))
    town.run(lambda tx: directory.set_catch_all(tx, Domain("example.test"), at("b@example.test")))
    assert town.reaches("whoever@example.test") == ["b@example.test"]
    assert town.reaches("a@example.test") == ["a@example.test"]
    assert town.resolve("off@example.test").status == MAILBOX_DISABLED
    town.run(lambda tx: directory.set_catch_all(tx, Domain("example.test"), at("x@elsewhere.test")))
    assert town.reaches("whoever@example.test") == ["x@elsewhere.test"]
    town.run(lambda tx: directory.set_catch_all(tx, Domain("example.test"), None))
    assert town.resolve("whoever@example.test").status == BAD_MAILBOX


def test_a_catch_all_that_points_nowhere_ends(town: Town) -> None:
    town.run(lambda tx: directory.set_catch_all(tx, Domain("example.test"), at("missing@example.test")))
    assert town.resolve("whoever@example.test").status == ROUTING_LOOP


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "abuse", "POSTMASTER+x"])
def test_postmaster_and_abuse_are_always_deliverable(town: Town, name: str) -> None:
    """RFC 5321 §4.5.1, RFC 2142: first administrator of the domain, else its oldest account, else the server's."""
    town.domain("other.test")
    town.domain("twin.test", alias_of="other.test")
    oldest = town.account("old@example.test")
    assert town.reaches(f"{name.partition('+')[0]}@other.test") == ["old@example.test"]
    town.account("b@other.test")
    town.account("admin@other.test", is_admin=True)
    plain = name.partition("+")[0]
    assert town.reaches(f"{plain}@other.test") == ["admin@other.test"]
    assert town.reaches(f"{plain}@twin.test") == ["admin@other.test"]
    assert town.reaches(f"{plain}@example.test") == ["old@example.test"]
    assert town.reaches(f"{plain}@mail.example.test") == ["admin@other.test"]
    town.disable(oldest)
    assert town.reaches(f"{plain}@example.test") == ["admin@other.test"]


def test_postmaster_is_deliverable_though_its_alias_is_broken(town: Town) -> None:
    town.account("a@example.test")
    town.alias("postmaster@example.test", "missing@example.test")
    assert town.reaches("postmaster@example.test") == ["a@example.test"]
    town.alias("duty@example.test", "abuse@example.test")
    assert town.reaches("duty@example.test") == ["a@example.test"]


def test_a_house_without_accounts_has_no_postmaster(town: Town) -> None:
    assert town.resolve("postmaster@example.test").status == BAD_MAILBOX
    assert town.resolve("someone@mail.example.test").status == BAD_MAILBOX
    assert town.resolve("someone@mail.example.test").domain_is_local


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True)), max_size=6)
)
def test_any_web_of_aliases_ends_and_reaches_whom_it_names(web: list[tuple[int, list[int]]]) -> None:
    """Nodes 0-5 may be aliases, 6 is an account, 7 elsewhere, 8 nothing: compared with a plain graph walk."""
    town = Town()
    town.domain("example.test")
    town.account("n6@example.test")
    text = {n: f"n{n}@example.test" for n in range(9)} | {7: "n7@elsewhere.test"}
    edges: dict[int, list[int]] = {}
    for source, targets in web:
        wanted = [target for target in targets if target != source]
        if wanted:
            town.alias(text[source], *(text[target] for target in wanted))
            edges.setdefault(source, []).extend(wanted)
    for start in range(9):
        seen, todo = {start}, [start]
        while todo:
            for target in edges.get(todo.pop(), []):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        assert sorted(town.reaches(text[start])) == sorted(text[n] for n in seen if n in (6, 7))


# --- who may send as what ------------------------------------------------------------------------------


def test_an_account_owns_its_addresses_their_twins_and_details(town: Town) -> None:
    town.domain("example.net", alias_of="example.test")
    account = town.account("a@example.test")
    other = town.account("a+sales@example.test")
    town.run(lambda tx: directory.add_address(tx, account, at("alias@example.test")))

    def owns(text: str, who: int = account) -> bool:
        return town.database.look(lambda reader: lookup.owns(reader, HOUSE, who, at(text)))

    assert owns("A@example.test")
    assert owns("a@example.net")
    assert owns("alias+x@example.net")
    assert not owns("a+sales@example.test"), "that address is somebody else's"
    assert owns("a+sales@example.test", other)
    assert not owns("b@example.test")
    assert not owns("a@elsewhere.test")


# --- what may exist beside what -------------------------------------------------------------------------


def test_domains_are_listed_and_removed_when_empty(town: Town) -> None:
    town.domain("example.net", alias_of="example.test")
    account = town.account("a@example.test")
    town.alias("team@example.test", "a@example.test")
    rows = town.database.look(directory.list_domains)
    assert [(row.name, row.alias_of, row.accounts, row.aliases) for row in rows] == [
        ("example.net", "example.test", 0, 0),
        ("example.test", None, 1, 1),
    ]

    def remove(name: str) -> None:
        town.run(lambda tx: directory.remove_domain(tx, Domain(name)))

    assert "1 account addresses, 1 aliases and 1 domain aliases" in refused(lambda: remove("example.test"))
    remove("example.net")
    town.run(lambda tx: aliases.remove_alias(tx, at("team@example.test")))
    town.run(lambda tx: directory.remove_account(tx, account))
    remove("example.test")
    assert town.database.look(directory.list_domains) == []
    assert "not here" in refused(lambda: remove("example.test"))


def test_a_domain_is_there_once_and_an_alias_is_no_alias_of_an_alias(town: Town) -> None:
    town.domain("example.net", alias_of="example.test")
    assert "already here" in refused(lambda: town.domain("EXAMPLE.test"))
    assert "itself an alias" in refused(lambda: town.domain("third.test", alias_of="example.net"))
    assert "not here" in refused(lambda: town.domain("third.test", alias_of="missing.test"))
    assert "literal" in refused(lambda: town.domain("[192.0.2.1]"))
    assert "share" in refused(lambda: town.domain("x.test", alias_of="example.test", catch_all="a@example.test"))
    assert "alias of" in refused(lambda: town.account("a@example.net"))
    assert "set the catch-all there" in refused(
        lambda: town.run(lambda tx: directory.set_catch_all(tx, Domain("example.net"), None))
    )
    assert "add it first" in refused(lambda: town.account("a@missing.test"))


def test_an_address_belongs_to_one(town: Town) -> None:
    account = town.account("a@example.test")
    town.alias("team@example.test", "a@example.test")
    assert "already" in refused(lambda: town.account("A@example.test"))
    assert "already" in refused(lambda: town.account("team@example.test"))
    assert "already" in refused(lambda: town.alias("a@example.test", "x@elsewhere.test"))
    assert "already" in refused(
        lambda: town.run(lambda tx: directory.add_address(tx, account, at("team@example.test")))
    )
    assert "own target" in refused(lambda: town.alias("self@example.test", "SELF@example.test"))
    assert "at least one" in refused(lambda: town.alias("none@example.test"))


def test_a_refused_account_leaves_nothing_behind(town: Town) -> None:
    refused(lambda: town.account("a@example.test", quota=0))
    refused(lambda: town.account("a@example.test", language="tlh"))
    refused(lambda: town.account("a@example.test", display_name="two\nlines"))
    assert town.database.look(lambda reader: reader.rows("SELECT id FROM account")) == []
    town.account("a@example.test")
    refused(lambda: town.account("a@example.test"))
    assert len(town.database.look(lambda reader: reader.rows("SELECT id FROM account"))) == 1


def test_addresses_come_and_go_but_the_primary_one_stays(town: Town) -> None:
    account = town.account("a@example.test")
    town.run(lambda tx: directory.add_address(tx, account, at("b@example.test")))
    assert town.reaches("b@example.test") == ["a@example.test"]
    assert town.database.look(lambda reader: directory.addresses_of(reader, account)) == (
        "a@example.test",
        "b@example.test",
    )

    def remove(text: str) -> None:
        town.run(lambda tx: directory.remove_address(tx, account, at(text)))

    assert "primary" in refused(lambda: remove("a@example.test"))
    remove("b@example.test")
    assert "no address of" in refused(lambda: remove("b@example.test"))
    assert town.resolve("b@example.test").status == BAD_MAILBOX


def test_the_number_of_addresses_is_bounded(town: Town) -> None:
    account = town.account("a@example.test")
    for number in range(directory.MAX_ADDRESSES - 1):
        town.run(lambda tx, n=number: directory.add_address(tx, account, at(f"a{n}@example.test")))
    assert "at most" in refused(lambda: town.run(lambda tx: directory.add_address(tx, account, at("x@example.test"))))


def test_a_removed_account_is_gone_with_all_it_had(town: Town) -> None:
    account = town.account("a@example.test")
    town.account("b@example.test")
    town.alias("team@example.test", "a@example.test", "b@example.test")
    town.run(lambda tx: directory.remove_account(tx, account))
    assert town.resolve("a@example.test").status == BAD_MAILBOX
    assert town.reaches("team@example.test") == ["b@example.test"]
    for table in ("mailbox", "address", "credential"):
        sql = f"SELECT COUNT(*) FROM {table} WHERE account = :account"
        assert town.database.look(lambda reader, sql=sql: reader.row(sql, account=account)) == (0,)
    assert "no such account" in refused(lambda: town.run(lambda tx: directory.remove_account(tx, account)))


def test_accounts_are_listed_in_pages(town: Town) -> None:
    town.domain("other.test")
    for name in ("c", "a", "b"):
        town.account(f"{name}@example.test", quota=5, display_name=name.upper())
    town.account("z@other.test")

    def page(**more: object) -> list[str]:
        return [
            row.name
            for row in town.database.look(lambda reader: directory.list_accounts(reader, **more))  # type: ignore[arg-type]  # keyword pass-through
        ]

    assert page(limit=2) == ["a@example.test", "b@example.test"]
    assert page(after="b@example.test") == ["c@example.test", "z@other.test"]
    assert page(domain=Domain("other.test")) == ["z@other.test"]
    first = town.database.look(directory.list_accounts)[0]
    assert (first.is_active, first.quota, first.display_name, first.used_octets) == (True, 5, "A", 0)


def test_quota_language_and_administrator_can_be_changed(town: Town) -> None:
    account = town.account("a@example.test")
    town.run(lambda tx: directory.set_quota(tx, account, 77))
    town.run(lambda tx: directory.set_language(tx, account, "zh"))
    town.run(lambda tx: directory.set_admin(tx, account, is_admin=True))
    (found,) = town.resolve("a@example.test").accounts
    assert (found.quota, found.language, found.is_admin) == (77, "zh", True)
    assert "quota" in refused(lambda: town.run(lambda tx: directory.set_quota(tx, account, -1)))
    town.run(lambda tx: directory.set_quota(tx, account, None))
    assert town.resolve("a@example.test").accounts[0].quota is None


def test_alias_targets_are_added_listed_and_removed(town: Town) -> None:
    town.alias("team@example.test", "x@elsewhere.test", "y@elsewhere.test")
    town.alias("team@example.test", "y@elsewhere.test", "z@elsewhere.test")

    def listed() -> list[tuple[str, tuple[str, ...]]]:
        return [(row.address, row.targets) for row in town.database.look(aliases.list_aliases)]

    assert listed() == [("team@example.test", ("x@elsewhere.test", "y@elsewhere.test", "z@elsewhere.test"))]

    def remove(*targets: str) -> None:
        town.run(lambda tx: aliases.remove_alias(tx, at("team@example.test"), [at(each) for each in targets]))

    assert "no target" in refused(lambda: remove("x@elsewhere.test", "q@elsewhere.test"))
    remove("x@elsewhere.test")
    town.alias("team@example.test", "x@elsewhere.test")
    assert listed() == [("team@example.test", ("y@elsewhere.test", "z@elsewhere.test", "x@elsewhere.test"))]
    remove("x@elsewhere.test", "y@elsewhere.test", "z@elsewhere.test")
    assert listed() == []
    assert "no alias" in refused(remove)
    town.alias("team@example.test", "x@elsewhere.test")
    remove()
    assert listed() == []
    assert town.resolve("team@example.test").status == BAD_MAILBOX


def test_an_alias_has_a_bounded_number_of_targets(town: Town) -> None:
    town.alias("all@example.test", *(f"n{n}@elsewhere.test" for n in range(MAX_ALIAS_TARGETS)))
    assert "at most" in refused(lambda: town.alias("all@example.test", "one-more@elsewhere.test"))


def test_refusals_say_strange_names_in_ascii(town: Town) -> None:
    town.account("\u7528\u6237@example.test")
    assert "\\u7528" in refused(lambda: town.account("\u7528\u6237@example.test"))


@given(st.text(min_size=1, max_size=20))
def test_folding_is_stable(text: str) -> None:
    assert fold(fold(text)) == fold(text)
