# SPDX-License-Identifier: Apache-2.0
"""SEARCH, SORT and THREAD (RFC 9051 §6.4.4, RFC 5256): arguments to events.

Invariant: what comes out is bounded in depth and number of keys, and its texts are decoded by the charset said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from posthouse.mail import search as values
from posthouse.mail.search import ReturnOption, SearchKey
from posthouse.protocol.imap import events, limits
from posthouse.protocol.imap.tokens import SYSTEM_FLAGS, CommandFault, Cursor

# Charsets that searches are asked in, and the codec of each. What one of them cannot say is said in UTF-8.
CHARSETS: dict[str, str] = {
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
    "US-ASCII": "ascii",
    "ASCII": "ascii",
    **{f"ISO-8859-{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"WINDOWS-{page}": f"cp{page}" for page in range(1250, 1259)},
    "KOI8-R": "koi8-r",
    "KOI8-U": "koi8-u",
    "GB2312": "gb2312",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "BIG5": "big5",
    "SHIFT_JIS": "shift_jis",
    "EUC-JP": "euc_jp",
    "ISO-2022-JP": "iso2022_jp",
    "EUC-KR": "euc_kr",
}
_BADCHARSET = "BADCHARSET (UTF-8 US-ASCII ISO-8859-1)"

_FLAGS = {name[1:].upper(): flag for name, flag in SYSTEM_FLAGS.items()}
_ADDRESSES = {field.name: field for field in values.AddressField}
_DATES = {
    prefix + relation.name: (kind, relation)
    for prefix, kind in (
        ("", values.DateKind.RECEIVED),
        ("SENT", values.DateKind.SENT),
        ("SAVED", values.DateKind.SAVED),
    )
    for relation in values.Relation
}
_RETURNS = {option.value: option for option in ReturnOption}
_CRITERIA = {criterion.value: criterion for criterion in values.SortCriterion}
_ALGORITHMS = {algorithm.value: algorithm for algorithm in values.ThreadAlgorithm}
_ENTRY_TYPES = {kind.value.upper(): kind for kind in values.EntryType}

_RECENT = values.IsRecent()
_WORDS: dict[str, SearchKey] = {
    "ALL": values.All(),
    "RECENT": _RECENT,
    "OLD": values.Not(_RECENT),
    "NEW": values.And((_RECENT, values.Not(values.HasFlag("\\Seen")))),  # RFC 3501 §6.4.4
    "SAVEDATESUPPORTED": values.HasSaveDate(),
    **{word: values.HasFlag(flag) for word, flag in _FLAGS.items()},
    **{f"UN{word}": values.Not(values.HasFlag(flag)) for word, flag in _FLAGS.items()},
}


class _Program:
    """One search program while it is read."""

    def __init__(self, cursor: Cursor, codec: str) -> None:
        self._cursor = cursor
        self._codec = codec
        self._count = 0

    # search-program = search-key *(SP search-key)
    def keys(self) -> SearchKey:
        found = [self._key(0)]
        while not self._cursor.is_at_end and self._cursor.text[self._cursor.position :].strip(b" "):
            self._cursor.space()
            found.append(self._key(0))
        self._cursor.end()
        return _all_of(found)

    def _key(self, depth: int) -> SearchKey:
        cursor = self._cursor
        self._count += 1
        if self._count > limits.MAX_SEARCH_KEYS:
            raise CommandFault(f"At most {limits.MAX_SEARCH_KEYS} search keys", "LIMIT", is_no=True)
        if depth > limits.MAX_SEARCH_DEPTH:
            raise CommandFault(f"Search keys nest at most {limits.MAX_SEARCH_DEPTH} deep", "LIMIT", is_no=True)
        if cursor.looks_at(b"("):
            return _all_of(cursor.in_list(lambda: self._key(depth + 1), limits.MAX_SEARCH_KEYS))
        if cursor.text[cursor.position : cursor.position + 1] in _SET_STARTS:
            return values.InSequence(cursor.sequence_set())
        word = cursor.keyword()
        plain = _WORDS.get(word)
        if plain is not None:
            return plain
        if word == "NOT":
            cursor.space()
            return values.Not(self._key(depth + 1))
        if word == "OR":
            cursor.space()
            first = self._key(depth + 1)
            cursor.space()
            return values.Or(first, self._key(depth + 1))
        return self._with_argument(word)

    def _with_argument(self, word: str) -> SearchKey:
        cursor = self._cursor
        if word in _ADDRESSES:
            return values.InAddress(_ADDRESSES[word], self._argument())
        if word in _DATES:
            kind, relation = _DATES[word]
            cursor.space()
            return values.DateIs(kind, relation, cursor.date())
        parse = _ARGUMENTS.get(word)
        if parse is not None:
            cursor.space()
            return parse(cursor)
        match word:
            case "SUBJECT":
                return values.InSubject(self._argument())
            case "BODY":
                return values.InBody(self._argument())
            case "TEXT":
                return values.InText(self._argument())
            case "HEADER":
                cursor.space()
                name = cursor.astring_text()
                return values.InHeader(name, self._argument())
            case _:
                raise CommandFault(f"There is no search key {word[:40]}", "CLIENTBUG")

    def _argument(self) -> str:
        self._cursor.space()
        octets = self._cursor.astring()
        try:
            return octets.decode(self._codec)
        except UnicodeError:
            raise CommandFault("The text is not in its charset", "CLIENTBUG") from None


_SET_STARTS = frozenset((b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"*", b"$"))


def _all_of(keys: list[SearchKey]) -> SearchKey:
    return keys[0] if len(keys) == 1 else values.And(tuple(keys))


# "KEYWORD" SP flag-keyword: an atom, not a system flag
def _keyword(cursor: Cursor) -> values.HasFlag:
    flag = cursor.flag()
    if flag.startswith("\\"):
        cursor.fail("a keyword has no backslash")
    return values.HasFlag(flag)


# "MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer (RFC 7162 §7)
def _modseq(cursor: Cursor) -> values.ModSeqSince:
    if not cursor.looks_at(b'"'):
        return values.ModSeqSince(cursor.number64())
    name = cursor.astring_text()
    prefix, flag = name[:7], name[7:]
    if prefix.lower() != "/flags/" or not flag:
        cursor.fail('expected "/flags/" and a flag')
    cursor.space()
    entry_type = _ENTRY_TYPES.get(cursor.keyword())
    if entry_type is None:
        cursor.fail("expected priv, shared or all")
    cursor.space()
    return values.ModSeqSince(cursor.number64(), SYSTEM_FLAGS.get(flag.lower(), flag), entry_type)


_ARGUMENTS: dict[str, Callable[[Cursor], SearchKey]] = {
    "KEYWORD": _keyword,
    "UNKEYWORD": lambda cursor: values.Not(_keyword(cursor)),
    "LARGER": lambda cursor: values.Larger(cursor.number64()),
    "SMALLER": lambda cursor: values.Smaller(cursor.number64()),
    "OLDER": lambda cursor: values.Older(cursor.nz_number()),
    "YOUNGER": lambda cursor: values.Younger(cursor.nz_number()),
    "UID": lambda cursor: values.InUids(cursor.sequence_set()),
    "MODSEQ": _modseq,
    "EMAILID": lambda cursor: values.EmailIdIs(cursor.object_id()),
    "THREADID": lambda cursor: values.ThreadIdIs(cursor.object_id()),
}


def _codec_of(cursor: Cursor) -> str:
    """charset = atom / quoted. What is said once UTF-8 is enabled cannot be in another one (RFC 6855 §3)."""
    charset = cursor.astring_text().upper()
    codec = CHARSETS.get(charset)
    if codec is None or (cursor.is_utf8 and codec not in ("utf-8", "ascii")):
        # RFC 9051 §6.4.4: NO, not BAD.
        raise CommandFault("That charset is not known here", _BADCHARSET, is_no=True)
    return codec


# search = "SEARCH" [search-return-opts] SP ["CHARSET" SP charset SP] search-key *(SP search-key)
def parse_search(cursor: Cursor) -> events.Search:
    returns, partial = _parse_returns(cursor)
    cursor.space()
    # Without a charset text is UTF-8 (RFC 9051 §6.4.4), of which RFC 3501's US-ASCII is a part.
    codec = "utf-8"
    with _saving(returns):
        if cursor.text[cursor.position : cursor.position + 8].upper() == b"CHARSET ":
            cursor.position += 8
            codec = _codec_of(cursor)
            cursor.space()
        return events.Search(_Program(cursor, codec).keys(), cursor.by_uid, returns, partial)


# sort = "SORT" [search-return-opts] SP "(" sort-key *(SP sort-key) ")" SP charset 1*(SP search-key) (RFC 5256 §5)
def parse_sort(cursor: Cursor) -> events.Sort:
    returns, partial = _parse_returns(cursor)
    cursor.space()
    order = tuple(cursor.in_list(lambda: _sort_key(cursor), limits.MAX_SORT_KEYS))
    cursor.space()
    with _saving(returns):
        codec = _codec_of(cursor)
        cursor.space()
        return events.Sort(order, _Program(cursor, codec).keys(), cursor.by_uid, returns, partial)


@contextmanager
def _saving(returns: frozenset[ReturnOption] | None) -> Iterator[None]:
    """NO to a search that should have been saved takes away what was (RFC 5182 §2.1)."""
    try:
        yield
    except CommandFault as fault:
        fault.forgets_saved = fault.is_no and returns is not None and ReturnOption.SAVE in returns
        raise


def _sort_key(cursor: Cursor) -> values.SortKey:
    word = cursor.keyword()
    is_reverse = word == "REVERSE"
    if is_reverse:
        cursor.space()
        word = cursor.keyword()
    criterion = _CRITERIA.get(word)
    if criterion is None:
        cursor.fail("there is no such sort key")
    return values.SortKey(criterion, is_reverse)


# thread = "THREAD" SP thread-alg SP charset 1*(SP search-key) (RFC 5256 §5)
def parse_thread(cursor: Cursor) -> events.Thread:
    cursor.space()
    algorithm = _ALGORITHMS.get(cursor.keyword())
    if algorithm is None:
        cursor.fail("there is no such threading algorithm")
    cursor.space()
    codec = _codec_of(cursor)
    cursor.space()
    return events.Thread(algorithm, _Program(cursor, codec).keys(), cursor.by_uid)


# search-return-opts = SP "RETURN" SP "(" [search-return-opt *(SP search-return-opt)] ")"
def _parse_returns(cursor: Cursor) -> tuple[frozenset[ReturnOption] | None, values.PartialRange | None]:
    if cursor.text[cursor.position : cursor.position + 8].upper() != b" RETURN ":
        return None, None
    cursor.position += 8
    found = cursor.in_list(lambda: _parse_return(cursor), len(_RETURNS) + 1, may_be_empty=True)
    partials = [option for option in found if isinstance(option, values.PartialRange)]
    options = frozenset(option for option in found if isinstance(option, ReturnOption))
    # RFC 9394 §3.1: "a single command MUST NOT contain more than one PARTIAL or ALL".
    if len(partials) > 1 or (partials and ReturnOption.ALL in options):
        raise CommandFault("PARTIAL stands alone, without ALL", "CLIENTBUG")
    if not options and not partials:
        options = frozenset({ReturnOption.ALL})  # RFC 9051 §6.4.4: "()" is "(ALL)"
    return options, partials[0] if partials else None


def _parse_return(cursor: Cursor) -> ReturnOption | values.PartialRange:
    word = cursor.keyword()
    if word == "PARTIAL":
        cursor.space()
        return cursor.partial_range()
    option = _RETURNS.get(word)
    if option is None:
        raise CommandFault(f"There is no return option {word[:40]}", "CLIENTBUG")
    return option
