# SPDX-License-Identifier: Apache-2.0
"""What an authority may say: every answer becomes a value within its limits, or one AcmeFault of one line.

The first octet says of which kind the answer is.
"""

from __future__ import annotations

import warnings
from typing import Any

from cryptography.utils import CryptographyDeprecationWarning

from fuzz.choices import Choices
from posthouse.services.acme.renewal import window_of
from posthouse.services.acme.words import (
    MAX_CHALLENGES,
    MAX_DETAIL,
    MAX_NAMES,
    AcmeFault,
    Authorization,
    Directory,
    Order,
    RenewalInfo,
    is_nonce,
    is_token,
    read,
    read_problem,
)
from posthouse.services.acme.x509 import read_leaf

DICTIONARY = "acme.dict"
KINDS: tuple[type[Any], ...] = (Directory, Order, Authorization, RenewalInfo)


def target(data: bytes) -> None:
    choices = Choices(data)
    kind = KINDS[choices.number(len(KINDS))]
    octets = choices.rest
    try:
        found = read(octets, kind, "answer")
    except AcmeFault as fault:
        said = str(fault)
        assert said.isprintable(), said
        assert len(said) <= MAX_DETAIL, said
    else:
        match found:
            case Order():
                assert len(found.authorizations) <= MAX_NAMES
            case Authorization():
                assert len(found.challenges) <= MAX_CHALLENGES
                for challenge in found.challenges:
                    assert not is_token(challenge.token) or "/" not in challenge.token
            case RenewalInfo():
                window = window_of(found)
                assert window is None or window.start < window.end
    problem = read_problem(octets)
    if problem is not None:
        assert AcmeFault(problem.text()).args[0].isprintable()
        assert len(problem.text()) <= MAX_DETAIL
    text = octets.decode("latin-1")
    assert not is_nonce(text) or text.isascii()
    with warnings.catch_warnings():
        # The library warns of serial numbers that it will refuse one day; until then they are read.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            leaf = read_leaf(octets)
        except ValueError:
            return
    assert len(leaf.key_digest) == 64
