# SPDX-License-Identifier: Apache-2.0
"""Letters that should not be, and are: what people's programs and spammers write. None of them may harm a client."""

from __future__ import annotations

_FROM = b"From: a@b.test\r\n"
_MIXED = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n'
_INNER = b"Subject: inner\r\nFrom: c@d.test\r\nContent-Type: text/html\r\n\r\n<p>inner</p>\r\n"


def _nested(depth: int) -> bytes:
    octets = b"Content-Type: text/plain\r\n\r\nin the middle\r\n"
    for level in range(depth):
        line = b"--b%d" % level
        octets = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n%b\r\n%b%b--\r\n' % (level, line, octets, line)
    return _FROM + b"Subject: nested\r\nMIME-Version: 1.0\r\n" + octets


LETTERS = {
    "header only": _FROM + b"Subject: header only\r\n\r\n",
    "no end of the header": _FROM + b"Subject: no end of the header\r\n",
    "no header": b"\r\nSubject: this is the body\r\n",
    "no line end at the end": _FROM + b"Subject: no line end\r\n\r\nlast line",
    "not a field": _FROM + b"this is no field\r\nSubject: not a field\r\n\r\nx\r\n",
    "8-bit header": _FROM + "Subject: grüße\r\nTo: Bücher <x@y.test>\r\n\r\nx\r\n".encode("latin-1"),
    "long line": _FROM + b"Subject: long line\r\n\r\n" + b"x" * 100_000 + b"\r\n",
    "long field": _FROM + b"Subject: long field\r\nReferences: " + b"<1@2.test> " * 5_000 + b"\r\n\r\nx\r\n",
    "quotes": b'From: "a \\" b \\\\ c" <"q \\" \\\\"@b.test>\r\nSubject: "quotes" \\ {5}\r\n\r\n{3}\r\n(* )\r\n',
    "groups": _FROM
    + b"Subject: groups\r\nTo: undisclosed-recipients:;\r\nCc: A: x@y.test, z@y.test;, w@y.test\r\n\r\nx\r\n",
    "two subjects": _FROM + b"Subject: first\r\nSubject: second\r\n\r\nx\r\n",
    "bad date": _FROM + b"Subject: bad date\r\nDate: yesterday\r\n\r\nx\r\n",
    "encoded words": _FROM + b"Subject: =?utf-8?b?6am/56uZ?= =?bad?x?y?= =?iso-8859-1?q?=FC\r\n\r\nx\r\n",
    "unknown charset": _FROM + b"Subject: x\r\nContent-Type: text/plain; charset=klingon-1\r\n\r\n\xff\xfe\r\n",
    "bad base64": _FROM + b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!QUJD=\r\nxx\r\n",
    "unknown encoding": _FROM + b"Subject: x\r\nContent-Transfer-Encoding: x-none\r\n\r\nabc\r\n",
    "no boundary parameter": _FROM + b"Subject: x\r\nContent-Type: multipart/mixed\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    "boundary never comes": _FROM + b"Subject: x\r\n" + _MIXED + b"\r\nno part at all\r\n",
    "never closed": _FROM
    + b"Subject: x\r\n"
    + _MIXED
    + b"\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\ntwo\r\n",
    "empty parts": _FROM + b"Subject: x\r\n" + _MIXED + b"\r\n--b\r\n--b\r\n\r\n--b--\r\n",
    "bad content type": _FROM + b"Subject: x\r\nContent-Type: text plain; =; charset\r\n\r\nx\r\n",
    "parameters": _FROM
    + b'Subject: x\r\nContent-Type: text/plain; name*0*=utf-8\'\'%e9%a9; name*1="%bf"; x="a\\"b"\r\n'
    + b"Content-Disposition: attachment; filename=\r\nContent-Language: de, zh\r\nContent-Location: a b\r\n\r\nx\r\n",
    "letter in a letter": _FROM + b"Subject: outer\r\nContent-Type: message/rfc822\r\n\r\n" + _INNER,
    "letter in a part": _FROM
    + b"Subject: outer\r\n"
    + _MIXED
    + b"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
    + _INNER
    + b"--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA0KDQp4\r\n"
    + b"--b--\r\n",
    "nested": _nested(12),
    "nested too deep": _nested(200),
    "many parts": _FROM + b"Subject: x\r\n" + _MIXED + b"\r\n" + b"--b\r\n\r\nx\r\n" * 300 + b"--b--\r\n",
}
