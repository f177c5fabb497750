# SPDX-License-Identifier: Apache-2.0
"""Commands about the connection and who is on it: greeting, capabilities, STARTTLS, login, ENABLE, COMPRESS, LOGOUT.

Invariant: capabilities are told anew whenever they change (greeting, TLS, login), so that no client need ask.
"""

from __future__ import annotations

from posthouse import __version__
from posthouse.edges.imap.here import Handlers, Here
from posthouse.outcome import INVALID_COMMAND, Refusal
from posthouse.protocol.imap import capabilities, codes, events, responses
from posthouse.services.directory import Account
from posthouse.services.login import Success

IDENTITY = {"name": "posthouse", "version": __version__, "vendor": "posthouse"}  # RFC 2971 §3.3


def capability_words(here: Here) -> list[str]:
    terms = here.terms
    return capabilities.capabilities(
        is_logged_in=here.has_account,
        is_protected=here.is_protected,
        offers_tls=here.engine.offers_tls,
        mechanisms=terms.login.mechanisms(is_protected=here.is_protected),
        append_limit=terms.append_limit,
        literal_minus=terms.literal_minus,
    )


async def opened(here: Here, _event: events.Opened) -> None:
    here.engine.greet(f"{here.terms.hostname} ready", codes.capability(capability_words(here)))


async def capability(here: Here, _event: events.Capability) -> None:
    here.engine.tell([responses.capability(capability_words(here))])
    here.engine.ok("That is all")


async def noop(here: Here, _event: events.Noop | events.Check) -> None:
    await here.news(is_asked=True)
    here.engine.ok("Done")


async def logout(here: Here, _event: events.Logout) -> None:
    here.engine.ok("Bye")


async def identify(here: Here, event: events.Id) -> None:
    said = dict(event.parameters or ())
    here.terms.log.debug("client", trace=here.peer.trace, program=said.get("name"), version=said.get("version"))
    here.engine.tell([responses.identity(IDENTITY)])
    here.engine.ok("Pleased to meet you")


async def start_tls(here: Here, _event: events.StartTls) -> None:
    here.engine.ok("Begin TLS")


# --- login ----------------------------------------------------------------------------------------


async def login(here: Here, event: events.Login) -> None:
    here.mark = here.terms.presence.mark
    account = await here.terms.login.with_password(event.name, event.password, scope="imap", peer=here.peer)
    _logged_in(here, account)


async def authenticate(here: Here, event: events.AuthStart) -> None:
    if event.mechanism.upper() not in here.terms.login.mechanisms(is_protected=True):
        # RFC 9051 §6.2.2: NO, not BAD; the next mechanism that the client knows may be one of ours.
        raise Refusal(INVALID_COMMAND, "This authentication mechanism is not offered")
    here.mark = here.terms.presence.mark
    here.exchange = here.terms.login.start(
        event.mechanism, scope="imap", peer=here.peer, tls=here.tls, is_protected=here.is_protected
    )
    await _step(here, event.initial)


async def respond(here: Here, event: events.AuthResponse) -> None:
    await _step(here, event.data)


async def _step(here: Here, response: bytes | None) -> None:
    exchange = here.exchange
    assert exchange is not None, "the engine knows that an exchange has begun"
    step = await here.terms.login.step(exchange, response)
    if isinstance(step, Success):
        here.exchange = None
        _logged_in(here, step.account)
    else:
        here.engine.challenge(step.data)


def _logged_in(here: Here, account: Account) -> None:
    here.enter(account)
    here.terms.metrics.logins.labels("ok").inc()
    here.terms.log.info("logged in", trace=here.peer.trace, peer=here.peer.address, account=account.name)
    here.engine.ok("Logged in", codes.capability(capability_words(here)))


async def unauthenticate(here: Here, _event: events.Unauthenticate) -> None:
    """RFC 8437 §3."""
    here.terms.log.info("logged out", trace=here.peer.trace, account=here.account.name)
    here.forget()
    here.engine.ok("Nobody is logged in", codes.capability(capability_words(here)))


# --- what the client can do -----------------------------------------------------------------------


async def enable(here: Here, event: events.Enable) -> None:
    words = capabilities.enabling(event.words, here.engine.enabled)
    here.engine.tell([responses.enabled(words)])
    here.engine.enable(words)
    here.count_vanished()
    if "CONDSTORE" in words:
        here.tell_modseq()
    here.engine.ok("Done")


async def compress(here: Here, _event: events.Compress) -> None:
    here.engine.ok("DEFLATE from here on")


HANDLERS: Handlers = {
    events.Opened: opened,
    events.Capability: capability,
    events.Noop: noop,
    events.Check: noop,
    events.Logout: logout,
    events.Id: identify,
    events.StartTls: start_tls,
    events.Login: login,
    events.AuthStart: authenticate,
    events.AuthResponse: respond,
    events.Unauthenticate: unauthenticate,
    events.Enable: enable,
    events.Compress: compress,
}
