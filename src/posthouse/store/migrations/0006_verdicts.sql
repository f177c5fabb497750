-- SPDX-License-Identifier: Apache-2.0
-- What was found about letters that came from other servers: SPF, DKIM, DMARC, ARC, iprev, and what was done with it.

-- One row per letter that was checked. letter: its id in history and in the queue. peer: the client's IP address.
-- author: the domain in From that DMARC was judged by, '' without. action: 'accept', 'quarantine'. statements: what
-- Authentication-Results says, with what reports to the domain's owner need (msgpack).
CREATE TABLE verdict (
    letter INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    peer TEXT NOT NULL,
    author TEXT NOT NULL,
    action TEXT NOT NULL,
    statements BLOB NOT NULL
);
