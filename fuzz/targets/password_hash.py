# SPDX-License-Identifier: Apache-2.0
"""Hashes of other servers: kept or refused, within what a verification may cost."""

from __future__ import annotations

import contextlib
import warnings

from posthouse.outcome import Refusal
from posthouse.services.passwords import check_imported, is_argon2

DICTIONARY = "password.dict"
MAX_SIZE = 300


def target(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    if any(digits in text for digits in ("000", "999")):
        return  # what is allowed may take a second
    is_argon2(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libpass remarks on what is odd and goes on
        with contextlib.suppress(Refusal):
            check_imported(text)
