# SPDX-License-Identifier: Apache-2.0
"""posthouse.toml as typed values. The text of each field is the manual: the commented file that `init` writes
and docs/reference/settings.md are printed from it. All mistakes are reported at once, with file, key and reason.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from posthouse.config_values import (
    AddressOrLocalPart,
    ClockTime,
    DomainName,
    Duration,
    Endpoint,
    MxPattern,
    OptionalDomainName,
    OptionalDuration,
    OptionalMailAddress,
    OptionalPath,
    Section,
    Size,
    domain_name,
    parse_duration,
    setting,
)
from posthouse.mail.address import AddressError, parse_address
from posthouse.mail.srs import DAY, MAX_AGE

FILE_NAME = "posthouse.toml"

_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
MAIN_CERTIFICATE = "main"  # the one that [acme] itself describes


class ConfigError(Exception):
    """What is wrong with the configuration, one line per mistake: `file: key: reason`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Listen(Section):
    """Where to listen: lists of "host:port" or "unix:/path"; an empty list is off."""

    smtp: list[Endpoint] = setting([], "Mail from other servers (MX, port 25).")
    submission: list[Endpoint] = setting([], "Mail from users, STARTTLS before AUTH (port 587).")
    submissions: list[Endpoint] = setting([], "Mail from users, TLS from the first octet (port 465).")
    lmtp: list[Endpoint] = setting([], "Mail for local recipients from a trusted neighbour (RFC 2033); never relays.")
    pop3: list[Endpoint] = setting([], "POP3 with STLS (port 110).")
    pop3s: list[Endpoint] = setting([], "POP3, TLS from the first octet (port 995).")
    imap: list[Endpoint] = setting([], "IMAP with STARTTLS (port 143).")
    imaps: list[Endpoint] = setting([], "IMAP, TLS from the first octet (port 993).")
    http: list[Endpoint] = setting(
        [], "Web without TLS (port 80): answers to certificate authorities, and the way to https for everything else."
    )
    https: list[Endpoint] = setting(
        [], "Web (port 443): settings for mail programs, and the MTA-STS policy of each domain."
    )
    metrics: list[Endpoint] = setting([], "Prometheus metrics at /metrics, health at /health; keep it local.")


class Smtp(Section):
    """What SMTP sessions may do."""

    max_message: Size = setting("50M", "Largest letter accepted, announced as SIZE.")
    max_recipients: int = setting(1000, "Recipients of one letter; the next one gets 452 4.5.3.", ge=100)
    max_connections: int = setting(1000, "Sessions at once, all SMTP listeners together.", ge=1)
    max_connections_per_address: int = setting(50, "Sessions at once from one address; loopback is exempt.", ge=1)
    letters_per_minute: int = setting(
        600, "Letters from one address in a minute, 0 = no limit; loopback is exempt.", ge=0
    )
    max_received: int = setting(100, "Received fields that make a letter a loop (RFC 5321 §6.3).", ge=100)
    tarpit_after: int = setting(5, "Errors in one session before each further reply is delayed.", ge=1)
    close_after: int = setting(25, "Errors in one session before it is closed.", ge=2)


class Pop3(Section):
    """What POP3 sessions may do."""

    max_connections: int = setting(1000, "Sessions at once, with and without TLS together.", ge=1)
    max_connections_per_address: int = setting(50, "Sessions at once from one address; loopback is exempt.", ge=1)


class Imap(Section):
    """What IMAP sessions may do."""

    max_connections: int = setting(
        10_000, "Sessions at once, with and without TLS together; a client holds several for days.", ge=1
    )
    max_connections_per_address: int = setting(
        1000, "Sessions at once from one address, which may be that of a whole office; loopback is exempt.", ge=1
    )
    max_sessions_per_account: int = setting(
        100, "Sessions at once of one account: a client holds five to ten of them on each of a person's devices.", ge=1
    )
    literal_minus: bool = setting(
        False, "Take only small literals without leave (LITERAL- instead of LITERAL+, RFC 7888)."
    )
    shared: str = setting(
        "shared",
        'Local part of the account whose mailboxes all of its domain find under "Shared/", as far as their rights'
        ' (ACL) let them; "" for none.',
    )


class Submission(Section):
    """What users may send."""

    recipients_per_hour: int = setting(500, "Recipients that one account may write to in an hour, 0 = no limit.", ge=0)
    alias_may_send: bool = setting(True, "An account may send as an alias address that delivers to it.")


class Auth(Section):
    """Who may log in, and how."""

    plaintext: list[Literal["smtp", "submission", "pop3", "imap"]] = setting(
        [], "Listeners on which a password may cross an unencrypted connection. Loopback too needs this."
    )
    scram_sha_1: bool = setting(False, "Offer SCRAM-SHA-1 for old clients (applies to passwords set from then on).")
    scram_iterations: int = setting(10000, "PBKDF2 rounds of new SCRAM secrets.", ge=10000)
    failures_per_address: int = setting(20, "Failed logins from one address in ten minutes before it must wait.", ge=3)
    failures_per_account: int = setting(50, "Failed logins to one account in ten minutes before it must wait.", ge=3)


class AuthorDomain(Section):
    """An exception for the letters of one Author Domain and those below it."""

    fail: Literal["accept", "quarantine", "reject"] = Field(
        description="What becomes of letters that fail DMARC, whatever the domain's owner asks for."
    )


class Authentication(Section):
    """Letters from other servers: SPF, DKIM, DMARC, ARC and iprev. The results stand in Authentication-Results,
    and `posthouse trace` tells them."""

    verify: bool = setting(True, "Check letters that come from other servers.")
    authserv_id: OptionalDomainName = setting(
        "", 'Who says so in Authentication-Results (RFC 8601 §2.5); "" = the hostname.'
    )
    loopback: bool = setting(
        False, "Check letters of programs on this machine too; a filter before this server hides who sent them."
    )
    quarantine: Literal["accept", "quarantine"] = setting(
        "quarantine",
        "What becomes of letters that fail DMARC and whose domain asks for quarantine; `quarantine` puts them into the"
        " mailbox with the special use Junk.",
    )
    reject: Literal["accept", "quarantine", "reject"] = setting(
        "quarantine",
        "The same where the domain asks for reject. `reject` also refuses what honest mailing lists have changed, so"
        " that members are thrown out; RFC 9989 §7.4 wants it only beside other reasons.",
    )
    malformed_from: Literal["accept", "quarantine", "reject"] = setting(
        "reject", "What becomes of letters without a From field, or with several (RFC 9989 §11.5)."
    )
    temperror: Literal["accept", "defer"] = setting(
        "accept", "What becomes of letters whose DMARC result DNS does not let us know; `defer` is 451 4.4.3."
    )
    spf_fail: Literal["accept", "quarantine", "reject"] = setting(
        "accept", "What becomes of letters that fail SPF and have no DMARC pass; `reject` is 550 5.7.23."
    )
    iprev_fail: Literal["accept", "quarantine", "reject"] = setting(
        "accept",
        "What becomes of letters from an address without a name that leads back to it; `reject` is 550 5.7.25.",
    )
    trusted_sealers: list[DomainName] = setting(
        [], "Domains (d= of ARC-Seal) that are believed when they have seen a DMARC pass where it fails now."
    )
    domains: dict[DomainName, AuthorDomain] = setting(
        {}, 'Exceptions, for example [authentication.domains."example.com"].'
    )


class Forwarding(Section):
    """Letters that aliases pass on to other servers."""

    srs: bool = setting(
        True,
        "Let such letters leave under a reverse-path of this host (SRS), so that they pass SPF at the next one; what"
        " comes back to it goes on to the sender. Off: new ones keep their sender.",
    )
    domain: OptionalDomainName = setting(
        "",
        'Where those reverse-paths are; "" = the hostname. Another domain needs an MX record that leads here and an SPF'
        " record that names this host.",
    )


class Signing(Section):
    """The keys that sign what leaves (DKIM); `posthouse domain keys` shows them."""

    rotate: OptionalDuration = setting(
        "",
        'How old a key becomes before the next one is made, for example "365d"; "" = only when asked'
        " (`posthouse domain keys rotate`). The next key signs when DNS has shown its record for two hours.",
    )
    keep: Duration = setting(
        "14d", "How long the record of a retired key must stay in DNS, for letters that are on their way."
    )


class Reports(Section):
    """Daily reports to other domains about their mail (DMARC, RFC 9990) and about TLS with their servers (TLSRPT,
    RFC 8460), and those that others send about domains here. `posthouse report` shows both."""

    dmarc: bool = setting(True, "Tell the owners of domains that ask for it what came in their name, once a day.")
    tls: bool = setting(True, "Tell the owners of domains that ask for it how TLS with their servers went.")
    address: OptionalMailAddress = setting(
        "",
        'From whom reports come; its domain signs them (DKIM). "" = postmaster at the hostname, or at the nearest'
        " domain above it that is served here, else at the first domain.",
    )
    organization: str = setting("", 'Who reports, for people; "" = the domain of the address.')
    exclude: list[DomainName] = setting([], "Domains that get no reports from here.")
    inbox: list[AddressOrLocalPart] = setting(
        ["postmaster", "dmarc-reports", "tls-reports"],
        "Addresses whose letters are looked through for reports of others; a local part alone means every domain here."
        " The letters are delivered all the same, so the addresses must exist.",
    )
    keep: Duration = setting("90d", "How long reports, sent and received, are remembered.")


class Destination(Section):
    """Exceptions for one destination domain."""

    retry: list[Duration] | None = setting(None, "As queue.retry, for this domain.")
    expire: Annotated[float | None, BeforeValidator(lambda v: v if v is None else parse_duration(v))] = setting(
        None, "As queue.expire, for this domain."
    )
    connections: int | None = setting(None, "As queue.connections_per_destination, for this domain.")


class Queue(Section):
    """When and how mail goes out."""

    retry: list[Duration] = setting(
        ["1m", "5m", "15m", "30m"], "The whole schedule; the last value repeats.", min_length=1
    )
    expire: Duration = setting("5d", "A letter that could not be delivered for so long is returned to its sender.")
    warn: OptionalDuration = setting("4h", 'When the sender is told of a delay; "" = never.')
    connections: int = setting(100, "Outgoing connections at once.", ge=1)
    connections_per_destination: int = setting(5, "Outgoing connections at once to one destination.", ge=1)
    history: Duration = setting(
        "90d",
        "How long `posthouse trace` remembers finished letters; with forwarding.srs 21 days at least, as senders whose"
        " addresses are too long to be rewritten are found there when a report comes back.",
    )
    destinations: dict[DomainName, Destination] = setting(
        {}, 'Exceptions, for example [queue.destinations."bob.test"].'
    )


class Route(Section):
    """A fixed next hop."""

    host: Endpoint = Field(description='"host:port"; a name is looked up (A, AAAA, not MX).')
    tls: Literal["none", "opportunistic", "require", "verify", "implicit"] = setting(
        "opportunistic", "`verify` checks the certificate; `implicit` is TLS from the first octet, verified."
    )
    protocol: Literal["smtp", "lmtp"] = setting("smtp", "`lmtp` (RFC 2033) hands over to a delivery agent.")
    username: str | None = setting(
        None, "Log in at the next hop (smart host); needs TLS, and `opportunistic` means `verify` then."
    )
    password_file: Path | None = setting(None, "File that holds the password, in its first line.")


def _route(value: object) -> object:
    return {"host": value} if isinstance(value, str) else value


class Resolver(Section):
    """DNS."""

    servers: list[str] = setting([], 'Name servers as "address" or "address:port"; empty: the system\'s.')
    timeout: Duration = setting("3s", "How long one name server gets for one try.")
    dnssec: Literal["auto", "trust", "off"] = setting(
        "auto",
        "Whose word is taken that an answer was validated (AD), which DANE needs: `auto` that of name servers on this"
        " machine (a validating unbound, for instance); `trust` that of all in use, when you answer for the network"
        " between; `off` nobody's. With `auto`, name servers elsewhere are not asked where there are some on this"
        " machine.",
    )


class TransportDomain(Section):
    """An exception for letters to one domain, or to one fixed next hop."""

    mta_sts: bool | None = setting(None, "As transport.mta_sts, for this domain.")
    dane: bool | None = setting(None, "As transport.dane, for this domain.")
    require: Literal["", "tls", "authenticated", "dane"] = setting(
        "",
        "What must be there, whatever the domain publishes: `tls` any encryption; `authenticated` a host proven by"
        " DANE, by MTA-STS, or by a signed MX record with a trusted certificate; `dane` DANE. Letters wait until then.",
    )


class Transport(Section):
    """How connections to other servers are protected. Encryption is always used where it is offered; these make
    sure of it, and of who is at the other end. Connections that [routes] describes with a `tls` of its own are left as
    they are."""

    mta_sts: bool = setting(True, "Fetch, keep and obey the policies of other domains (MTA-STS, RFC 8461).")
    dane: bool = setting(
        True, "Obey TLSA records of other hosts (DANE, RFC 7672); works where resolver.dnssec finds validated answers."
    )
    requiretls: bool = setting(
        True, "Offer REQUIRETLS (RFC 8689) on connections with TLS; such letters leave to authenticated hosts only."
    )
    private_web: bool = setting(
        False,
        "Whether MTA-STS policies are fetched from, and TLS reports posted to, hosts in private networks and on this"
        " machine, too. Other domains choose these hosts; only a network of your own with such domains needs it.",
    )
    results: bool = setting(True, "Count how TLS with other domains went, for the reports that they ask for (TLSRPT).")
    domains: dict[DomainName, TransportDomain] = setting(
        {}, 'Exceptions, for example [transport.domains."bank.example"].'
    )


class Certificate(Section):
    certificate: Path = Field(description="PEM file with the chain, the server's own certificate first.")
    key: Path = Field(description="PEM file with the private key.")


class Tls(Section):
    """Certificates; the file tls/self-signed.pem is made at first start and used where none fits."""

    certificates: list[Certificate] = setting([], "Chosen by the client's SNI among the names in each certificate.")


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value) or value == MAIN_CERTIFICATE:
        raise ValueError("name it with up to 40 of a-z, 0-9 and -; the first one is called main")
    return value


def _host_name(value: str) -> str:
    return "*." + domain_name(value[2:]) if value.startswith("*.") else domain_name(value)


def _mail_address(value: str) -> str:
    try:
        parse_address(value)
    except AddressError as error:
        raise ValueError(str(error)) from None
    if not value.isascii() or set("?%,") & set(value):
        raise ValueError("an authority takes an address in plain ASCII only")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
Label = Annotated[str, AfterValidator(_label)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
ChallengeKind = Literal["http-01", "tls-alpn-01", "dns-01"]


class AcmeCertificate(Section):
    """A further certificate."""

    names: list[HostName] = Field(description="The host names in it.", min_length=1, max_length=100)
    challenge: ChallengeKind | None = setting(None, "As acme.challenge, for this certificate.")
    profile: str | None = setting(None, "As acme.profile, for this certificate.")


class Acme(Section):
    """Certificates that an authority gives by itself (ACME, RFC 8555), renewed in time and taken over while serving.
    Certificates of [tls] win over them."""

    agreed: bool = setting(
        False,
        "true: I agree to the terms of service of the authority. This switches it on; before, nobody is asked for"
        " anything.",
    )
    directory: str = setting(
        "https://acme-v02.api.letsencrypt.org/directory",
        "The authority: the URL of its directory, https only.",
        pattern="^https://[^ ]+$",
        max_length=2048,
    )
    contact: list[MailAddress] = setting([], "Mail addresses at which the authority may write to you.", max_length=5)
    names: list[HostName] = setting([], "The host names in the certificate; empty: hostname.", max_length=100)
    challenge: ChallengeKind = setting(
        "http-01",
        "How the authority sees that the names are yours: http-01 needs listen.http reachable at port 80, tls-alpn-01 a"
        " listener with TLS from the first octet (https, imaps, …) reachable at port 443, dns-01 [dns_update]; only"
        " dns-01 can do wildcards.",
    )
    profile: str = setting("", "Which of the authority's kinds of certificate (`shortlived`, say); empty: its default.")
    key: Literal["ec", "rsa"] = setting(
        "ec",
        "EC P-256, or RSA of 2048 bits for clients of the time before 2010. A change is a rollover: where TLSA records"
        " exist it waits for that of the new key.",
    )
    rollover: int = setting(
        0,
        "A new key with every so many renewals, announced in DNS in time where TLSA records exist; 0 = never, so that"
        " these stay as they are. `posthouse certificate rollover` does it once.",
        ge=0,
    )
    eab_key_id: str = setting("", "External account binding: the key id that the authority has given to you.")
    eab_key_file: OptionalPath = setting("", "File that holds the key for it (base64url), in its first line.")
    ca_file: OptionalPath = setting(
        "", "Certificates (PEM) to trust when talking to the authority, instead of the system's; for one in the house."
    )
    dns_patience: Duration = setting("10m", "dns-01: how long all name servers of a zone may take to show a record.")
    certificates: dict[Label, AcmeCertificate] = setting(
        {}, "Further certificates, for example [acme.certificates.web]."
    )


class DnsUpdate(Section):
    """Writing into your zones at their primary server (dynamic updates, RFC 2136): for dns-01, `posthouse dns DOMAIN
    --update` and the change of keys that TLSA records name."""

    server: str = setting("", 'The primary server as "address" or "address:port"; empty: off.')
    key_name: str = setting("", "The name of the TSIG key; empty: updates are not signed.")
    key_algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"] = setting(
        "hmac-sha256", "The algorithm of the TSIG key."
    )
    key_file: OptionalPath = setting("", "File that holds the secret (base64), in its first line.")
    zones: list[DomainName] = setting([], "Zones that may be written to; empty: those that the server says it has.")
    show: list[str] = setting(
        [],
        'Name servers that must show a record before it counts as published, as "address" or "address:port"; empty:'
        " those of the zone's NS records.",
    )


class Web(Section):
    """The web listeners, http and https."""

    max_connections: int = setting(500, "Connections at once, with and without TLS together.", ge=1)
    max_connections_per_address: int = setting(
        50, "Connections at once from one address, which may be that of a whole office; loopback is exempt.", ge=1
    )
    behind_proxy: bool = setting(
        False,
        "A web server on this machine has port 443, does TLS, and passes requests on to a listener of listen.http on"
        " loopback or a Unix socket, with Host as it was and X-Forwarded-Proto: https.",
    )


class MtaSts(Section):
    """The MTA-STS policy of our domains (RFC 8461): who sends to them must use TLS and find a certificate that is good
    for this host. `posthouse dns` has the records for it; it is published at https://mta-sts.DOMAIN/."""

    mode: Literal["off", "none", "testing", "enforce"] = setting(
        "testing",
        "`testing`: others report what fails and deliver all the same; `enforce`: they do not deliver then, so set it"
        " when `posthouse check DOMAIN` is content. To give it up say `none` with a short max_age, and `off` when the"
        " old max_age has passed.",
    )
    max_age: Duration = setting(
        "14d", "How long others keep the policy: a year at most, weeks at least in `enforce`.", ge=0, le=31_557_600
    )
    mx: list[MxPattern] = setting(
        [], 'Other hosts that take mail for our domains, such as "backup.example.net" or "*.example.net".'
    )


class Store(Section):
    """What is kept, and where."""

    pack_size: Size = setting("128M", "A pack file is sealed when it is so large.", ge=1 << 20)
    reserve: Size = setting("200M", "Free space below which new mail gets 452; reading goes on.")
    snapshot: ClockTime = setting("03:30", 'Time of the daily snapshot of the database (UTC); "" = never.')
    snapshots_kept: int = setting(7, "How many daily snapshots are kept.", ge=1)
    backups_kept: int = setting(7, "How many backups `posthouse backup DIR` keeps in DIR.", ge=1)
    keep_tombstones: Duration = setting("90d", "How long a removal is remembered for clients that resynchronise.")
    keep_dead: Duration = setting("30d", "How long the octets of a removed letter may still lie in the packs.")


class Process(Section):
    """The process itself."""

    user: str = setting("", "User to become after binding ports, when started as root.")
    event_loop: Literal["auto", "uvloop", "asyncio"] = setting("auto", "uvloop where it exists, or plain asyncio.")
    log_format: Literal["auto", "json", "text"] = setting("auto", "auto: text on a terminal, JSON lines elsewhere.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "The least important lines to write.")
    drain: Duration = setting("30s", "How long sessions may finish after SIGTERM.")


class Settings(Section):
    hostname: DomainName = Field(description="The server's own name: greeting, Received, the MX record's target.")
    listen: Listen = Listen()
    smtp: Smtp = Smtp()
    pop3: Pop3 = Pop3()
    imap: Imap = Imap()
    submission: Submission = Submission()
    auth: Auth = Auth()
    authentication: Authentication = Authentication()
    forwarding: Forwarding = Forwarding()
    signing: Signing = Signing()
    reports: Reports = Reports()
    queue: Queue = Queue()
    routes: dict[str, Annotated[Route, BeforeValidator(_route)]] = Field(
        default={},
        description='Fixed next hops before DNS: "bob.test" = "127.0.0.1:2626"; "*" = a smart host for all else.',
    )
    resolver: Resolver = Resolver()
    transport: Transport = Transport()
    tls: Tls = Tls()
    acme: Acme = Acme()
    dns_update: DnsUpdate = DnsUpdate()
    web: Web = Web()
    mta_sts: MtaSts = MtaSts()
    store: Store = Store()
    process: Process = Process()

    @model_validator(mode="after")
    def _keeps_senders(self) -> Self:
        if self.forwarding.srs and self.queue.history < MAX_AGE * DAY:
            raise ValueError(
                f"queue.history: write {MAX_AGE}d or more, or switch forwarding.srs off; reports that come back about a"
                f" letter that was passed on find its sender by its history, for {MAX_AGE} days"
            )
        return self


def load(folder: Path) -> Settings:
    """Read DIR/posthouse.toml. Raise ConfigError with every mistake in it."""
    path = folder / FILE_NAME
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([f"{path}: not found; `posthouse init` writes one"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    return parse(octets, str(path))


def parse(octets: bytes, source: str) -> Settings:
    """The settings in the octets of a file. Raise ConfigError with every mistake in them."""
    try:
        table = tomllib.loads(octets.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError([f"{source}: cannot be read: {error}"]) from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        # The reader lets numbers of more than 4,300 digits and brackets nested a thousand deep fall through.
        raise ConfigError([f"{source}: not valid TOML: {error}"]) from None
    return from_table(table, source)


def from_table(table: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        raise ConfigError([_problem(source, detail) for detail in error.errors()]) from None


def _problem(source: str, detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    reason = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        reason = "no such setting; docs/reference/settings.md lists them all"
    elif detail["type"] == "missing":
        reason = "missing; it has no default"
    return f"{source}: {key}: {reason}" if key else f"{source}: {reason}"
