# SPDX-License-Identifier: Apache-2.0
"""How much one client may say. Every limit that the grammar and the engine keep, with its reason."""

from __future__ import annotations

# Octets of a line with its CRLF, without its literals. RFC 7162 §4 asks for 8192 and more; clients that name ten
# thousand UIDs one by one need six times as much.
MAX_LINE = 64 * 1024
# Octets of a line that is too long which are read in the hope of its end, so that it gets its answer and the
# session goes on.
MAX_LINE_DISCARD = 1024 * 1024
# Octets of all lines and literals of one command but the messages of APPEND: search texts and names are short.
MAX_COMMAND = 256 * 1024
# The same before login, when anybody may talk: a name (320) and a password (1024), escaped, and room.
MAX_COMMAND_BEFORE_LOGIN = 4096
MAX_LITERALS = 64  # in one command: a search program or a list of header names, each text a literal
# Octets of a refused literal that does not wait for leave (RFC 7888 §4): read and thrown away up to here, beyond
# it the connection ends. What a client may have sent before it could hear the refusal, generously.
MAX_SKIP = 16 * 1024 * 1024
LITERAL_MINUS = 4096  # RFC 7888 §5: the largest literal that does not wait, under LITERAL-
MAX_AUTH_LINE = 12288  # of a response within AUTHENTICATE: as SMTP allows (RFC 4954 §4)
MAX_TAG = 64  # octets; clients use less than ten. It comes back in every answer
MAX_BAD_IN_A_ROW = 20  # commands refused as BAD one after the other: whoever speaks is no IMAP client

MAX_NUMBER = 0xFFFF_FFFF  # RFC 9051 §9: number is 32 bits wide
MAX_NUMBER64 = 0x7FFF_FFFF_FFFF_FFFF  # number64 and mod-sequences are 63 bits wide

MAX_RANGES = 20_000  # of one set; single UIDs with a comma fill a line before that
MAX_MAILBOX_NAME = 1024  # octets in UTF-8: a path of some 30 levels, more than any client shows
MAX_PATTERNS = 64  # of one LIST
MAX_FLAG = 255  # octets of a keyword; flags of one STORE or APPEND: MAX_FLAGS
MAX_FLAGS = 128
MAX_FETCH_ITEMS = 128  # header sections of some clients ask for two dozen
MAX_HEADER_NAMES = 256  # of one HEADER.FIELDS; libraries that ask for every field they know name eighty
MAX_PART_DEPTH = 64  # numbers in a section path: no message nests deeper that anybody reads
MAX_SEARCH_DEPTH = 32  # NOT, OR and parentheses within each other; people's rules have three or four
MAX_SEARCH_KEYS = 1024  # of one program; clients that look for many Message-IDs send some hundred
MAX_SORT_KEYS = 32  # there are nine criteria
MAX_MESSAGES = 1024  # of one MULTIAPPEND: all of them become durable together
MAX_ID_PAIRS = 30  # RFC 2971 §3.3
MAX_ID_NAME = 30
MAX_ID_VALUE = 1024
MAX_ID_COMMAND = 48 * 1024  # octets: as many pairs as there may be, each as long as it may be, escaped here and there
MAX_ENABLE = 64  # words of one ENABLE
MAX_TEXT = 400  # characters of the text of an answer: people read it, and some of it comes from them
MAX_QUOTA_RESOURCES = 32

# Seconds to wait for the client. RFC 9051 §5.4: an autologout timer after login "MUST be at least 30 minutes"; a
# minute more, as clients renew IDLE after 29 (RFC 2177 §3) and NOOP after exactly 30.
COMMAND_WAIT = 31 * 60.0
LOGIN_WAIT = 180.0  # before login: people type their password; strangers hold a connection no longer
CONTENT_WAIT = 300.0  # between two blocks of a literal
HANDSHAKE_WAIT = 60.0  # two round trips; nothing else may hold the connection
DRAIN_WAIT = 10.0  # for what is under way when the server stops
