# SPDX-License-Identifier: Apache-2.0
"""DMARC Policy Records as values (RFC 9989 §4.7, §4.8); those written for RFC 7489 are read by the same rules.

Invariant: what cannot be read of a record is named in `problems` and has its default; only the version decides whether
there is a record at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_RECORD = 8192  # octets read; real ones have 60 to 400
MAX_CACHED = 1024  # octets of a record whose reading is kept
MAX_TAGS = 64  # RFC 9989 §9.3 knows fourteen
MAX_URIS = 20  # of one tag: each may get a report a day

# dmarc-version: the value is case sensitive, the name is not (RFC 9989 §4.8).
_VERSION = re.compile(rb"[ \t]*[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG = re.compile(r"([A-Za-z]+)[ \t]*=[ \t]*([ -:<-~]*)")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):((?:[A-Za-z0-9._~:/?#\[\]@$&'()*+;=-]|%[0-9A-Fa-f]{2})+)")
_SIZE = re.compile(r"![0-9]+[kmgtKMGT]?\Z")  # obs-dmarc-report-size


class Policy(StrEnum):
    """A Domain Owner Assessment Policy, from the mildest to the strictest."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def milder(self) -> Policy:
        """One level below, as test mode asks for (RFC 9989 §4.7, tag t)."""
        return Policy.QUARANTINE if self is Policy.REJECT else Policy.NONE

    @property
    def severity(self) -> int:
        return list(Policy).index(self)


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """One record with its defaults filled in. `policy`, `subdomain_policy` and `missing_policy` are p, sp and np;
    None: the tag is not there.

    `is_usable`: it says what to do, or can be taken as p=none because it says where reports go (RFC 9989 §4.10.1).
    Where it is not, it still shows where a domain's organization is.
    """

    policy: Policy | None = None
    subdomain_policy: Policy | None = None
    missing_policy: Policy | None = None
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: str = "u"
    is_test: bool = False
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    fo: tuple[str, ...] = ("0",)
    is_usable: bool = True
    problems: tuple[str, ...] = ()

    def policy_for(self, *, is_subdomain: bool, exists: bool = True) -> Policy:
        """RFC 9989 §4.10.1: from p for the domain where the record lies, else from sp or np, before test mode."""
        chosen = None
        if is_subdomain and not exists:
            chosen = self.missing_policy
        if is_subdomain and chosen is None:
            chosen = self.subdomain_policy
        return chosen or self.policy or Policy.NONE


def parse_record(text: bytes) -> DmarcRecord | None:
    """None: no DMARC record, because `v=DMARC1` is not its first tag. Never raises."""
    return _parse_cached(text) if len(text) <= MAX_CACHED else _parse(text)


@lru_cache(maxsize=512)  # a tree walk reads the same record for each of a letter's domains; some 3 KB each
def _parse_cached(text: bytes) -> DmarcRecord | None:
    return _parse(text)


def _parse(text: bytes) -> DmarcRecord | None:
    version = _VERSION.match(text)
    if version is None:
        return None
    reader = _Reader()
    if len(text) > MAX_RECORD:
        reader.problems.append(f"only the first {MAX_RECORD} octets were read")
    reader.read(text[version.end() : MAX_RECORD].decode("ascii", "replace"))
    return reader.record()


class _Reader:
    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.problems: list[str] = []

    def read(self, text: str) -> None:
        specs = text.split(";", MAX_TAGS)
        if len(specs) > MAX_TAGS:
            self.problems.append(f"only the first {MAX_TAGS} tags were read")
        for spec in specs[:MAX_TAGS]:
            if not (stripped := spec.strip(" \t")):
                continue
            found = _TAG.fullmatch(stripped)
            if found is None:
                self.problems.append("something that is no tag was left out")
            elif (name := found[1].lower()) in self.tags:
                self.problems.append(f"tag {name[:20]} stands there twice; the first counts")
            else:
                self.tags[name] = found[2]

    def record(self) -> DmarcRecord:
        policies = {name: self._policy(name) for name in ("p", "sp", "np")}
        rua = self._uris("rua")
        # RFC 9989 §4.10.1: no valid p, or sp or np that is none: p=none if reports are wanted, else nothing at all.
        is_broken = policies["p"] is None or any(policies[name] is None and name in self.tags for name in ("sp", "np"))
        if "p" not in self.tags:
            self.problems.append("tag p is missing")
        if is_broken:
            policies = {"p": Policy.NONE, "sp": None, "np": None}
        ruf = self._uris("ruf")
        return DmarcRecord(
            policy=policies["p"],
            subdomain_policy=policies["sp"],
            missing_policy=policies["np"],
            strict_dkim=self._one_of("adkim", "rs") == "s",
            strict_spf=self._one_of("aspf", "rs") == "s",
            psd=self._one_of("psd", "uyn"),
            is_test=self._is_test(),
            rua=rua,
            ruf=ruf,
            fo=self._failure_options() if ruf else ("0",),
            is_usable=not is_broken or bool(rua),
            problems=tuple(self.problems),
        )

    def _policy(self, name: str) -> Policy | None:
        value = self.tags.get(name, "").lower()
        if value in ("none", "quarantine", "reject"):
            return Policy(value)
        if name in self.tags:
            self.problems.append(f"tag {name} has no known value")
        return None

    def _one_of(self, name: str, letters: str) -> str:
        """The first letter is the default."""
        value = self.tags.get(name, letters[0]).lower()
        if len(value) == 1 and value in letters:
            return value
        self.problems.append(f"tag {name} has no known value")
        return letters[0]

    def _is_test(self) -> bool:
        """RFC 9989 appendix A.6: t=y is what pct=0 (RFC 7489 §6.3) had come to mean. Other shares count as all."""
        if "t" in self.tags:
            return self._one_of("t", "ny") == "y"
        percentage = self.tags.get("pct", "")
        return bool(percentage) and not percentage.strip("0")

    def _failure_options(self) -> tuple[str, ...]:
        """dmarc-fo; blanks beside the colons are RFC 7489's."""
        options = tuple(option.strip(" \t").lower() for option in self.tags.get("fo", "0").split(":", 8))
        if set(options) <= {"0", "1", "d", "s"} and len(set(options)) == len(options) and {"0", "1"} - set(options):
            return options
        self.problems.append("tag fo has no known value")
        return ("0",)

    def _uris(self, name: str) -> tuple[str, ...]:
        """Without the sizes of RFC 7489, which are to be ignored."""
        if name not in self.tags:
            return ()
        found: dict[str, None] = {}
        parts = self.tags[name].split(",", MAX_URIS)
        for part in parts[:MAX_URIS]:
            uri = _SIZE.sub("", part.strip(" \t"))
            if _URI.fullmatch(uri):
                found[uri] = None
            else:
                self.problems.append(f"tag {name} has something that is no URI")
        if len(parts) > MAX_URIS:
            self.problems.append(f"only the first {MAX_URIS} URIs of {name} were read")
        return tuple(found)
