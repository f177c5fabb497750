# SPDX-License-Identifier: Apache-2.0
"""What the web shows, and what the world's DNS should: policies, settings for mail programs, records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from posthouse.composing.certificates import served_files
from posthouse.config import Settings
from posthouse.edges.web.app import WebApp, WebTerms
from posthouse.edges.web.names import Names
from posthouse.net.certificate import CertificateFault
from posthouse.net.own_addresses import own_addresses
from posthouse.net.profile_signer import ProfileSigner
from posthouse.net.served import served_for
from posthouse.ports import Clock, Workers
from posthouse.services.client_settings import Offer, offer_of
from posthouse.services.directory import Directory
from posthouse.services.dns_records import Surroundings
from posthouse.services.own_policy import OwnPolicy, PolicyDesk, own_policy
from posthouse.telemetry import Metrics

# The authority that is asked by default, and what it calls itself in CAA records (RFC 8659 §4.2).
LETS_ENCRYPT_HOST = "acme-v02.api.letsencrypt.org"
LETS_ENCRYPT = "letsencrypt.org"


def policy_of(settings: Settings) -> OwnPolicy:
    wanted = settings.mta_sts
    return own_policy(settings.hostname, wanted.mode, wanted.max_age, wanted.mx)


def offer_in(settings: Settings) -> Offer:
    return offer_of(settings.hostname, settings.listen, behind_proxy=settings.web.behind_proxy)


def surroundings_of(folder: Path, settings: Settings, policy: OwnPolicy, *, next_key: str = "") -> Surroundings:
    """What the records of `posthouse dns` speak of. It reads certificates: a few milliseconds. `next_key`: the digest
    (hexadecimal) of a key that certificates will have soon."""
    try:
        files = [
            each for each in served_files(folder, settings) if each.certificate.exists()
        ]  # none before a first start
        served = served_for(settings.hostname, files)
    except CertificateFault:
        served = None  # `posthouse check` tells of it
    digests = [] if served is None else [served.key_digest]
    if next_key:
        digests.append(bytes.fromhex(next_key))
    smart_host = settings.routes.get("*")
    return Surroundings(
        hostname=settings.hostname,
        offer=offer_in(settings),
        policy=policy,
        key_digests=tuple(digests),
        authorities=authorities_of(settings),
        addresses=own_addresses(settings.listen.smtp),
        smart_host="" if smart_host is None else smart_host.host.rpartition(":")[0].strip("[]"),
    )


def authorities_of(settings: Settings) -> tuple[str, ...]:
    """Who may issue certificates, by the name that it looks for in CAA records; () where that name is not known."""
    is_known = settings.acme.agreed and settings.acme.directory.startswith(f"https://{LETS_ENCRYPT_HOST}/")
    return (LETS_ENCRYPT,) if is_known else ()


def no_challenge(_token: str) -> str | None:
    """Where no certificate is asked for by http-01 (RFC 8555 §8.3)."""
    return None


def web_app(
    folder: Path,
    settings: Settings,
    directory: Directory,
    policy_desk: PolicyDesk,
    workers: Workers,
    clock: Clock,
    metrics: Metrics,
    *,
    challenge: Callable[[str], str | None] = no_challenge,
) -> WebApp:
    """What the listeners http and https answer. `challenge`: the answer to a certificate authority's token."""
    signer = ProfileSigner(lambda: served_for(settings.hostname, served_files(folder, settings)))

    async def sign(octets: bytes) -> bytes | None:
        # The pool of password hashing: it too has work for a whole core that strangers may ask for.
        return await workers.run(lambda: signer.sign(octets), pool="hash")

    return WebApp(
        WebTerms(
            offer=offer_in(settings),
            names=Names(settings.hostname, directory.is_local_domain),
            policy=lambda: policy_desk.policy,
            challenge=challenge,
            sign=sign,
            clock=clock,
            metrics=metrics,
            behind_proxy=settings.web.behind_proxy,
        )
    )
