# SPDX-License-Identifier: Apache-2.0
"""Reply: code, enhanced status, text (RFC 5321 §4.2, RFC 2034 §3)."""

from __future__ import annotations

from dataclasses import dataclass

from posthouse.outcome import Status


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of one or more lines. `status` is None where RFC 2034 §3 wants none (greeting, EHLO, 354, 334)."""

    code: int
    status: Status | None
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, status: tuple[int, int, int] | None, text: str) -> Reply:
        return cls(code, None if status is None else Status(*status), (text,))

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    def encode(self) -> bytes:
        """`Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF`."""
        status = "" if self.status is None else f"{self.status} "
        if len(self.lines) == 1:
            return f"{self.code} {status}{self.lines[0]}\r\n".encode()
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{' ' if number == last else '-'}{status}{line}\r\n" for number, line in enumerate(self.lines)
        ).encode()
