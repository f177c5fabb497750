# SPDX-License-Identifier: Apache-2.0
"""Our MTA-STS policy: its text and id, and which hosts it covers."""

from __future__ import annotations

import re

import pytest

from posthouse.config import ConfigError, from_table
from posthouse.services.own_policy import own_policy


def test_text_of_each_mode() -> None:
    for mode in ("none", "testing", "enforce"):
        text = own_policy("mail.a.test", mode, 60, ["mx.b.test"]).text  # type: ignore[arg-type]
        assert text == f"version: STSv1\r\nmode: {mode}\r\nmx: mail.a.test\r\nmx: mx.b.test\r\nmax_age: 60\r\n"


def test_every_change_has_another_id_and_the_same_has_the_same() -> None:
    policies = [
        own_policy("mail.a.test", "testing", 60, []),
        own_policy("mail.a.test", "enforce", 60, []),
        own_policy("mail.a.test", "testing", 61, []),
        own_policy("mail.a.test", "testing", 60, ["b.test"]),
        own_policy("mail.b.test", "testing", 60, []),
    ]
    assert len({policy.id for policy in policies}) == len(policies)
    assert policies[0].id == own_policy("mail.a.test", "testing", 60.0, ["mail.a.test"]).id
    for policy in policies:
        # RFC 8461 §3.1: 1*32(ALPHA / DIGIT), and the record ends with a delimiter or not.
        assert re.fullmatch(r"v=STSv1; id=[A-Za-z0-9]{1,32};", policy.record)


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [
        ("mail.a.test", True),
        ("MAIL.a.test.", True),
        ("x.b.test", True),
        ("b.test", False),  # RFC 8461 §4.1: the wildcard stands for one label
        ("y.x.b.test", False),
        ("mail.c.test", False),
        ("", False),
    ],
)
def test_which_hosts_it_covers(host: str, is_covered: bool) -> None:
    assert own_policy("mail.a.test", "testing", 60, ["*.b.test"]).covers(host) is is_covered


def test_settings() -> None:
    wanted = from_table(
        {
            "hostname": "mail.a.test",
            "mta_sts": {"mode": "enforce", "max_age": "30d", "mx": ["*.B.test", "mx.例え.test"]},
        },
        "test",
    ).mta_sts
    assert (wanted.mode, wanted.max_age) == ("enforce", 30 * 86400)
    assert wanted.mx == ["*.b.test", "mx.xn--r8jz45g.test"]


@pytest.mark.parametrize(
    "wrong", [{"mode": "on"}, {"max_age": "400d"}, {"mx": ["*"]}, {"mx": ["*.*.b.test"]}, {"mx": [""]}]
)
def test_settings_that_are_wrong(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="mta_sts"):
        from_table({"hostname": "mail.a.test", "mta_sts": wrong}, "test")
