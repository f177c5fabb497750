# SPDX-License-Identifier: Apache-2.0
"""Certificates of an authority, and the zones that we may write to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from posthouse.composing.ground import Ground
from posthouse.config import MAIN_CERTIFICATE, Acme, ConfigError, DnsUpdate, Settings
from posthouse.net.authoritative import AuthoritativeDns
from posthouse.net.certificate import CertificateFault, issued_files, read_facts, self_signed_files
from posthouse.net.dns_update import Rfc2136Editor, ZoneKey, read_secret
from posthouse.net.tls import CertificateFiles, CertificateStore, why_unusable
from posthouse.net.tls_challenge import is_possible
from posthouse.net.web_client import HttpsClient
from posthouse.ports import PublicDns, Resolver, WebClient, ZoneEditor
from posthouse.services.acme.accounts import Accounts
from posthouse.services.acme.jws import decode
from posthouse.services.acme.solving import DnsSolver, HttpSolver, Solver, TlsSolver
from posthouse.services.acme.x509 import ServerKey, read_key
from posthouse.services.certificate_keys import CertificateKeys
from posthouse.services.certificate_shelf import CertificateShelf
from posthouse.services.certificate_terms import Authority, CertificatePlan, covers
from posthouse.services.certificates import Certificates
from posthouse.services.challenges import ChallengeKind, Challenges
from posthouse.services.key_rollover import KeyNotice


@dataclass(frozen=True, slots=True)
class Issuance:
    challenges: Challenges
    certificates: Certificates
    zones: ZoneEditor | None


def open_issuance(ground: Ground, folder: Path, resolver: Resolver) -> Issuance:
    """Raises ValueError and OSError where `check_issuance` has not been asked first."""
    settings, machine = ground.settings, ground.machine
    acme, clock, entropy = settings.acme, machine.clock, machine.entropy
    challenges = Challenges(clock, entropy)
    zones = zone_editor(settings.dns_update)
    public = public_dns(settings)
    solvers: dict[ChallengeKind, Solver] = {"http-01": HttpSolver(challenges)}
    if is_possible():
        solvers["tls-alpn-01"] = TlsSolver(challenges)
    if zones is not None:
        solvers["dns-01"] = DnsSolver(zones, public, acme.dns_patience)
    web: WebClient = machine.web(resolver)
    if acme.ca_file is not None:
        web = HttpsClient(resolver, ca_file=str(acme.ca_file))
    shelf = CertificateShelf(folder, machine.disk, lambda path: why_unusable(CertificateFiles(path, path)))
    authority = authority_of(acme)
    plans = plans_of(settings) if acme.agreed else []
    keys = CertificateKeys(
        plans,
        shelf,
        KeyNotice(public, zones),
        clock=clock,
        entropy=entropy,
        workers=ground.workers,
        hostname=settings.hostname,
        first_key=lambda: _key_in(key_file(folder, settings)),
    )
    certificates = Certificates(
        plans,
        authority,
        shelf,
        Accounts(shelf, authority, web, clock=clock, entropy=entropy, workers=ground.workers),
        solvers,
        keys,
        clock=clock,
        entropy=entropy,
        workers=ground.workers,
        metrics=ground.metrics,
        by_hand=lambda: _names_by_hand(settings),
    )
    ground.metrics.gauge(
        "certificates_end_timestamp",
        "When the first certificate of an authority ends, 0 for none",
        lambda: certificates.first_end,
    )
    return Issuance(challenges, certificates, zones)


def plans_of(settings: Settings) -> list[CertificatePlan]:
    acme = settings.acme
    names = tuple(dict.fromkeys(acme.names or [settings.hostname]))
    plans = [CertificatePlan(MAIN_CERTIFICATE, names, acme.challenge, acme.profile, acme.key, acme.rollover)]
    for name, each in acme.certificates.items():
        plans.append(
            CertificatePlan(
                name,
                tuple(dict.fromkeys(each.names)),
                each.challenge or acme.challenge,
                acme.profile if each.profile is None else each.profile,
                acme.key,
                acme.rollover,
            )
        )
    return plans


def served_files(folder: Path, settings: Settings) -> list[CertificateFiles]:
    """In their order: those of the settings win, and behind all stands the self-signed one."""
    given = [CertificateFiles(each.certificate, each.key) for each in settings.tls.certificates]
    issued = [CertificateFiles(path, path, is_optional=True) for path in issued_files(folder, settings)]
    own = self_signed_files(folder)
    return [*given, *issued, CertificateFiles(own.certificate, own.key)]


def join_tls(certificates: CertificateStore, challenges: Challenges, issued: Certificates) -> None:
    """What is issued is served at once, and challenges are answered."""
    certificates.answer_challenges(challenges.tls_names, challenges.tls_asked)
    challenges.watch(certificates.challenges_changed)
    issued.watch(certificates.refresh)


def authority_of(acme: Acme) -> Authority:
    """Raises ValueError, OSError."""
    mac_key = b""
    if acme.eab_key_id:
        if acme.eab_key_file is None:
            raise ValueError("acme.eab_key_file: missing; it belongs to acme.eab_key_id")
        mac_key = decode(read_secret(acme.eab_key_file).rstrip("="))
    return Authority(acme.directory, tuple(acme.contact), acme.eab_key_id, mac_key)


def zone_editor(settings: DnsUpdate) -> ZoneEditor | None:
    """Raises ValueError, OSError."""
    if not settings.server:
        return None
    key = None
    if settings.key_name:
        if settings.key_file is None:
            raise ValueError("dns_update.key_file: missing; it belongs to dns_update.key_name")
        key = ZoneKey(settings.key_name, settings.key_algorithm, read_secret(settings.key_file))
    return Rfc2136Editor(settings.server, key, zones=settings.zones)


def public_dns(settings: Settings) -> PublicDns:
    """Raises ValueError."""
    return AuthoritativeDns(settings.resolver.servers, servers=settings.dns_update.show)


def check_issuance(settings: Settings) -> None:
    """Raises ConfigError."""
    problems = list(issuance_problems(settings))
    if problems:
        raise ConfigError(problems)


def issuance_problems(settings: Settings) -> Iterator[str]:
    """What only the machine can tell about these settings, one line each."""
    for key, build in (
        ("acme", lambda: authority_of(settings.acme)),
        ("dns_update", lambda: zone_editor(settings.dns_update)),
        ("dns_update.show", lambda: AuthoritativeDns(servers=settings.dns_update.show)),
        ("acme.ca_file", lambda: _try_open(settings.acme.ca_file)),
    ):
        try:
            build()
        except OSError as error:
            yield f"{key}: {error.filename}: cannot be read: {error.strerror}"
        except ValueError as error:
            yield f"{key}: {error}"
    if not settings.acme.agreed:
        return
    for plan in plans_of(settings):
        wild = [name for name in plan.names if name.startswith("*.")]
        if wild and plan.challenge != "dns-01":
            yield f'acme: {wild[0]}: a wildcard needs challenge = "dns-01" (RFC 8555 §7.1.3)'
        if plan.challenge == "dns-01" and not settings.dns_update.server:
            yield f"acme: certificate {plan.name}: dns-01 needs [dns_update]"
        if plan.challenge == "tls-alpn-01" and not is_possible():
            yield f"acme: certificate {plan.name}: this Python cannot answer tls-alpn-01; use http-01 or dns-01"


def _try_open(path: Path | None) -> None:
    if path is not None:
        path.open("rb").close()


def _names_by_hand(settings: Settings) -> list[str]:
    names: list[str] = []
    for each in settings.tls.certificates:
        try:
            names += read_facts(each.certificate).names
        except CertificateFault:
            continue  # `check` tells it
    return names


def key_file(folder: Path, settings: Settings) -> Path:
    """Of the key that is served for our host name where it is not an authority's certificate."""
    for each in settings.tls.certificates:
        with contextlib.suppress(CertificateFault):
            if covers(read_facts(each.certificate).names, [settings.hostname]):
                return each.key
    return self_signed_files(folder).key


def _key_in(path: Path) -> ServerKey | None:
    try:
        return read_key(path.read_bytes())
    except (OSError, ValueError):
        return None
