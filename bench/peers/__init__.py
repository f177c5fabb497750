# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured: each starts in a folder of its own, on loopback, with its defaults for durability."""

from __future__ import annotations

from bench.peers.aiosmtpd import Aiosmtpd
from bench.peers.base import DOMAIN, PASSWORD, USER, MaildirPeer, Peer, Setup
from bench.peers.dovecot import Dovecot, DovecotFast
from bench.peers.exim import Exim
from bench.peers.haraka import Haraka
from bench.peers.milters import PostfixMilters
from bench.peers.opensmtpd import OpenSmtpd
from bench.peers.postfix import Postfix, PostfixDovecot
from bench.peers.posthouse import Posthouse, PosthouseAsyncio

__all__ = [
    "DOMAIN",
    "PASSWORD",
    "PEERS",
    "USER",
    "Dovecot",
    "DovecotFast",
    "Haraka",
    "MaildirPeer",
    "Peer",
    "Postfix",
    "PostfixDovecot",
    "PostfixMilters",
    "Posthouse",
    "Setup",
]

PEERS: dict[str, type[Peer]] = {
    each.name: each
    for each in (
        Posthouse,
        PosthouseAsyncio,
        Postfix,
        PostfixDovecot,
        PostfixMilters,
        Exim,
        OpenSmtpd,
        Aiosmtpd,
        Haraka,
        Dovecot,
        DovecotFast,
    )
}
