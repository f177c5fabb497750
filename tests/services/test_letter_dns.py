# SPDX-License-Identifier: Apache-2.0
"""What is at hand needs no task; what is not is asked for once, and given up with the letter."""

from __future__ import annotations

import asyncio

import pytest

from posthouse.mailauth.author import Authors
from posthouse.mailauth.dmarc import check_dmarc
from posthouse.ports import NameNotFound, ResolverFault
from posthouse.services.letter_dns import LetterDns, at_once
from tests.fakes import FakeResolver
from tests.virtual_loop import run


class Waiting(FakeResolver):
    """Answers after a second."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0

    async def txt(self, name: str) -> list[bytes]:
        self.under_way += 1
        try:
            await asyncio.sleep(1)
        finally:
            self.under_way -= 1
        return await super().txt(name)


def test_what_need_not_wait_is_done_without_a_task() -> None:
    async def work() -> None:
        dns = FakeResolver()
        dns.text("a.test", b"one")
        dns.broken = {"b.test"}
        letter = LetterDns(dns)
        there, broken, missing = (letter.ask(name) for name in ("a.test", "b.test", "c.test"))
        assert there.result() == [b"one"]
        with pytest.raises(ResolverFault):
            broken.result()
        with pytest.raises(NameNotFound):
            missing.result()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (letter.ask("a.test"), dns.asked) == (there, ["a.test", "b.test", "c.test"])
        await letter.close()

    run(work())


def test_what_must_wait_is_asked_for_once_and_begun_anew() -> None:
    async def work() -> None:
        dns = Waiting()
        dns.text("a.test", b"one")
        dns.text("b.test", b"two")
        letter = LetterDns(dns)
        began = 0

        async def both() -> list[bytes]:
            nonlocal began
            began += 1
            return [*await letter.txt("a.test"), *await letter.txt("b.test")]

        first, second = letter.begin(both), letter.begin(both)
        assert not first.done()
        assert (await first, await second) == ([b"one", b"two"], [b"one", b"two"])
        assert began == 4
        assert dns.asked == ["a.test", "b.test"]
        assert letter.begin(both).done()  # now it is at hand
        await letter.close()

    run(work())


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.0, 2.0])
def test_nothing_is_left_after_close(seconds: float) -> None:
    async def work() -> None:
        dns = Waiting()
        letter = LetterDns(dns)
        letter.ask("missing.test")
        begun = letter.begin(lambda: letter.txt("missing.test"))
        if seconds:
            await asyncio.sleep(seconds)
        await letter.close()
        assert begun.done()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert dns.under_way == 0

    told: list[object] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await work()

    run(watched())
    assert not told, "an answer that nobody wanted is told as a fault"


def test_work_that_is_given_up_is_cleaned_up_after() -> None:
    async def check() -> None:
        left: list[str] = []

        async def work() -> None:
            try:
                async with asyncio.timeout(5):
                    await asyncio.sleep(1)
            finally:
                left.append("cleaned up")

        assert at_once(work()) is None
        assert left == ["cleaned up"]
        await asyncio.sleep(10)  # the time-out of what was given up touches nobody

    run(check())


def test_a_whole_check_is_at_hand() -> None:
    async def work() -> None:
        dns = FakeResolver()
        dns.text("_dmarc.a.test", b"v=DMARC1; p=reject")
        known = at_once(check_dmarc(LetterDns(dns), Authors(("a.test",)), None, []))
        assert known is not None
        assert [verdict.result for verdict in known.result()] == ["fail"]

    run(work())
