# SPDX-License-Identifier: Apache-2.0
"""What is offered to mail programs, from what is listened on."""

from __future__ import annotations

from posthouse.config import Listen
from posthouse.services.client_settings import Offer, Protocol, offer_of


def offer(behind_proxy: bool = False, **listen: list[str]) -> Offer:
    return offer_of("mail.a.test", Listen.model_validate(listen), behind_proxy=behind_proxy)


def ports(found: Offer) -> dict[str, int]:
    return {server.service: server.port for server in found.servers}


def test_the_best_comes_first() -> None:
    found = offer(imap=["*:143"], imaps=["*:993"], submission=["*:587"], submissions=["*:465"], pop3s=["*:995"])
    assert list(ports(found)) == ["imaps", "imap", "pop3s", "submissions", "submission"]
    assert found.is_usable
    best = found.best(Protocol.SMTP)
    assert best is not None
    assert best.port == 465
    assert found.to_read is not None
    assert found.to_read.service == "imaps"


def test_what_is_not_listened_on_is_not_offered() -> None:
    assert ports(offer()) == {}
    assert not offer().is_usable
    assert not offer(imaps=["*:993"]).is_usable
    assert not offer(submissions=["*:465"]).is_usable
    assert offer(pop3=["*:110"], submission=["*:587"]).is_usable


def test_what_is_for_this_machine_is_not_offered_to_the_world() -> None:
    found = offer(imaps=["0.0.0.0:993"], imap=["127.0.0.1:143", "[::1]:143"], pop3s=["unix:/run/pop3s"])
    assert ports(found) == {"imaps": 993}


def test_a_trial_offers_what_it_has() -> None:
    found = offer(imaps=["127.0.0.1:2993"], submissions=["localhost:2465"], https=["127.0.0.1:2443"])
    assert ports(found) == {"imaps": 2993, "submissions": 2465}
    assert found.https_port == 2443


def test_the_port_of_the_web() -> None:
    assert offer(http=["*:80"]).https_port is None
    assert offer(https=["*:8443"]).https_port == 8443
    assert offer(https=["*:8443", "[2001:db8::1]:443"]).https_port == 443
    assert offer(https=["127.0.0.1:8443", "*:4443"]).https_port == 4443
    assert offer(http=["127.0.0.1:8080"], behind_proxy=True).https_port == 443
