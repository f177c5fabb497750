# SPDX-License-Identifier: Apache-2.0
"""NAMESPACE, access control lists (RFC 4314), quota (RFC 9208).

Invariant: nobody is told what they may not look up: a mailbox without right `l` is not there.
"""

from __future__ import annotations

from posthouse.edges.imap.here import Handlers, Here
from posthouse.protocol.imap import codes, events, responses
from posthouse.protocol.imap.events import RightsChange
from posthouse.services.mailbox.places import OTHER_USERS, SHARED
from posthouse.services.mailbox.sharing import MAX_LETTERS, Quota
from posthouse.store import rights
from posthouse.store.flagging import Change
from posthouse.store.mailboxes import SEPARATOR

UNIT = 1024  # octets of STORAGE (RFC 9208 §5.1)
_CHANGES = {
    RightsChange.SET: Change.REPLACE,
    RightsChange.ADD: Change.ADD,
    RightsChange.REMOVE: Change.REMOVE,
}


async def namespace(here: Here, _event: events.Namespace) -> None:
    has_shared = bool(here.terms.places.shared_name(here.account))
    shared = [(SHARED + SEPARATOR, SEPARATOR)] if has_shared else []
    others = [(OTHER_USERS + SEPARATOR, SEPARATOR)]
    here.engine.tell([responses.namespace([("", SEPARATOR)], others, shared, is_utf8=here.engine.is_utf8)])
    await _end(here)


async def _end(here: Here) -> None:
    await here.news()
    here.engine.ok("Done")


# --- rights ---------------------------------------------------------------------------------------


async def get_acl(here: Here, event: events.GetAcl) -> None:
    place, lines = await here.terms.sharing.lines(here.account, event.mailbox)
    told = [(line.identifier, rights.shown(line.rights)) for line in lines]
    here.engine.tell([responses.acl(place.name, told, is_utf8=here.engine.is_utf8)])
    await _end(here)


async def set_acl(here: Here, event: events.SetAcl) -> None:
    change = _CHANGES[event.change]
    await here.terms.sharing.grant(here.account, event.mailbox, event.identifier, event.rights, change)
    await _end(here)


async def delete_acl(here: Here, event: events.DeleteAcl) -> None:
    await here.terms.sharing.grant(here.account, event.mailbox, event.identifier, "", Change.REPLACE)
    await _end(here)


async def list_rights(here: Here, event: events.ListRights) -> None:
    """The identifier as it was said (RFC 4314 §3.4)."""
    place, always, optional = await here.terms.sharing.grantable(here.account, event.mailbox, event.identifier)
    is_utf8 = here.engine.is_utf8
    told = responses.list_rights(
        place.name, event.identifier, rights.shown(always), rights.shown(optional), is_utf8=is_utf8
    )
    here.engine.tell([told])
    await _end(here)


async def my_rights(here: Here, event: events.MyRights) -> None:
    place = await here.place(event.mailbox)
    here.engine.tell([responses.my_rights(place.name, rights.shown(place.rights), is_utf8=here.engine.is_utf8)])
    await _end(here)


# --- quota ----------------------------------------------------------------------------------------


async def get_quota(here: Here, event: events.GetQuota) -> None:
    _tell_quota(here, await here.terms.sharing.quota(here.account, event.root))
    await _end(here)


async def get_quota_root(here: Here, event: events.GetQuotaRoot) -> None:
    quota = await here.terms.sharing.quota_of_mailbox(here.account, event.mailbox)
    here.engine.tell([responses.quota_root(event.mailbox, [quota.root], is_utf8=here.engine.is_utf8)])
    _tell_quota(here, quota)
    await _end(here)


def _tell_quota(here: Here, quota: Quota) -> None:
    # RFC 9208 §7: a root has at least one resource. §3.2: limits that nobody has set are told too.
    resources = [("MESSAGE", quota.letters, MAX_LETTERS)]
    if quota.max_octets is not None:
        resources.insert(0, ("STORAGE", _units(quota.octets), _units(quota.max_octets)))
    here.engine.tell([responses.quota(quota.root, resources, is_utf8=here.engine.is_utf8)])


def _units(octets: int) -> int:
    return -(-octets // UNIT)


async def set_quota(here: Here, _event: events.SetQuota) -> None:
    """QUOTASET is not offered (RFC 9208 §4.1.3)."""
    here.engine.no("Quotas are the administrator's to set", codes.NOPERM)


HANDLERS: Handlers = {
    events.Namespace: namespace,
    events.GetAcl: get_acl,
    events.SetAcl: set_acl,
    events.DeleteAcl: delete_acl,
    events.ListRights: list_rights,
    events.MyRights: my_rights,
    events.GetQuota: get_quota,
    events.GetQuotaRoot: get_quota_root,
    events.SetQuota: set_quota,
}
