# SPDX-License-Identifier: Apache-2.0
"""Sealing a letter that goes on to somewhere else (RFC 8617 §5.1): what was seen here, signed, and the chain closed.

Invariant: a seal never says more of the chain than the check before it has found.
"""

from __future__ import annotations

import base64

from posthouse.mail.header import scan_header
from posthouse.mailauth.arc import MAX_SETS, MESSAGE_NAME, RESULTS_NAME, SEAL_NAME, ArcCheck, Chain, ChainResult
from posthouse.mailauth.canonical import BodyHash, relaxed_field
from posthouse.mailauth.dkim import DkimSigner, fold_names, signed_fields

# RFC 8617 §4.1.2: nothing of other sets, and nothing that the next hop writes anew.
_NEVER_SIGNED = (RESULTS_NAME, MESSAGE_NAME, SEAL_NAME, b"authentication-results")


def seal(
    signer: DkimSigner,
    header: bytes,
    body: BodyHash,
    *,
    check: ArcCheck,
    chain: Chain,
    results: bytes,
    timestamp: float,
) -> bytes:
    """The three fields of one more set, each ending in CRLF, to be put on top of this header.

    `check` and `chain`: of this letter, before. `results`: what Authentication-Results says of it, from the
    authserv-id on, without an instance. `body` was fed the body in relaxed form. b"" where no set may be added: the
    chain is broken for all to see already, it is as long as it may be, or its state is not known now.
    """
    instance = chain.count + 1
    if check.is_closed or instance > MAX_SETS or chain.result is ChainResult.TEMPERROR:
        return b""
    own_results = b" i=%d; %b" % (instance, results)
    message = _message_signature(signer, header, body, instance, timestamp)
    value = (
        f" i={instance}; a={signer.algorithm}; t={int(timestamp)}; cv={chain.result};\r\n"
        f"\td={signer.domain}; s={signer.selector};\r\n"
        "\tb="
    ).encode("ascii")
    before: list[bytes] = []
    # RFC 8617 §5.1.2: of a chain that has failed a seal covers its own set alone.
    if chain.result is ChainResult.PASS:
        before = [relaxed_field(field.name, header[field.value_start : field.end]) for field in check.fields_in_order]
    signed = [
        *before,
        relaxed_field(RESULTS_NAME, own_results),
        relaxed_field(MESSAGE_NAME, message),
        relaxed_field(SEAL_NAME, value),
    ]
    return (
        b"ARC-Seal:" + value + signer.signature_of(b"\r\n".join(signed)) + b"\r\n"
        b"ARC-Message-Signature:" + message + b"\r\n"
        b"ARC-Authentication-Results:" + own_results + b"\r\n"
    )


def _message_signature(signer: DkimSigner, header: bytes, body: BodyHash, instance: int, timestamp: float) -> bytes:
    """The value of ARC-Message-Signature, with its signature."""
    scan = scan_header(header)
    if b"from" not in scan:
        raise ValueError("a letter without From cannot be sealed")
    names, signed = signed_fields(scan)
    # What the letter was signed with before is part of what this hop hands on.
    signatures = scan.raw(b"dkim-signature")
    names += ["dkim-signature"] * len(signatures)
    signed += [relaxed_field(b"dkim-signature", each) for each in reversed(signatures)]
    assert not set(names) & {name.decode("ascii") for name in _NEVER_SIGNED}
    value = (
        f" i={instance}; a={signer.algorithm}; c=relaxed/relaxed; d={signer.domain};\r\n"
        f"\ts={signer.selector}; t={int(timestamp)};\r\n"
        f"\th={fold_names(names)};\r\n"
        f"\tbh={base64.b64encode(body.digest()).decode()};\r\n"
        "\tb="
    ).encode("ascii")
    signed.append(relaxed_field(MESSAGE_NAME, value))
    return value + signer.signature_of(b"\r\n".join(signed))
