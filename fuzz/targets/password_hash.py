# SPDX-License-Identifier: Apache-2.0
"""Hashes of other servers: kept or refused, and what is kept costs no more to verify than it may, whoever logs in.

The slow functions themselves are replaced by ones that look at what they are asked to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

from argon2 import _password_hasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from passlib.handlers import sha2_crypt

from fuzz.choices import Choices
from posthouse.outcome import Refusal
from posthouse.services import passwords
from posthouse.services.passwords import Passwords, check_imported
from posthouse.store.credentials import read_app_password

DICTIONARY = "password.dict"
MAX_SIZE = 300
MAX_WORK = 4 * passwords.MAX_ROUNDS  # rounds of one PBKDF2, times the blocks of its result


def target(data: bytes) -> None:
    choices = Choices(data)
    password = choices.text(8)
    text = choices.rest.decode("utf-8", "replace")
    read_app_password(text)
    with _looking(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libpass remarks on what is odd and goes on
        nothing = cast("Any", None)  # neither threads nor chance are asked for
        keeper = Passwords(nothing, nothing)
        try:
            kept = check_imported(text)
        except Refusal:
            return
        assert kept == text.strip(), "another hash is kept than was given"
        verdict = keeper._verify(kept, list(dict.fromkeys((password, "x"))))
        assert verdict.is_right in (True, False)


@contextlib.contextmanager
def _looking() -> Iterator[None]:
    """Within this nothing is slow."""
    modules: list[tuple[Any, str, Any]] = [
        (hashlib, "pbkdf2_hmac", _pbkdf2),
        (sha2_crypt, "_raw_sha2_crypt", _sha2_crypt),
        (_password_hasher, "verify_secret", _argon2),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in modules]
    for module, name, instead in modules:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def _pbkdf2(digest: str, _secret: bytes, _salt: bytes, rounds: int, size: int | None = None) -> bytes:
    width = hashlib.new(digest).digest_size
    size = size or width
    assert rounds * -(-size // width) <= MAX_WORK, f"{rounds} rounds for {size} octets"
    return bytes(size)


def _sha2_crypt(_secret: object, _salt: object, rounds: int, *is_long: bool) -> str:
    assert rounds <= passwords.MAX_ROUNDS, f"{rounds} rounds"
    return "." * (86 if any(is_long) else 43)


def _argon2(stored: bytes, _secret: bytes, _kind: object) -> bool:
    try:
        cost = extract_parameters(stored.decode("ascii"))
    except InvalidHashError:
        raise VerifyMismatchError from None
    assert cost.memory_cost <= passwords.MAX_ARGON2_MEMORY, f"{cost.memory_cost} KiB"
    assert cost.memory_cost * cost.time_cost <= passwords.MAX_ARGON2_WORK, f"{cost.time_cost} passes"
    assert cost.parallelism <= passwords.MAX_ARGON2_LANES, f"{cost.parallelism} threads"
    raise VerifyMismatchError
