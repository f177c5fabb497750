-- SPDX-License-Identifier: Apache-2.0
-- Reports about mail: what is counted for the owners of other domains until they are told (DMARC), what they were told,
-- and what others have told us about our domains (DMARC, TLS).

-- One row per day (since the epoch, UTC) and domain whose policy was found (RFC 9990 §3.1.2). policy: the last one seen
-- that day, with where reports go and what is wrong with it (msgpack). kinds: rows of dmarc_count. omitted: letters that
-- are not counted there because there would be too many rows.
CREATE TABLE dmarc_day (
    day INTEGER NOT NULL,
    domain TEXT NOT NULL,
    policy BLOB NOT NULL,
    kinds INTEGER NOT NULL,
    omitted INTEGER NOT NULL,
    PRIMARY KEY (day, domain)
) WITHOUT ROWID;

-- Letters of which a report says the same. digest: of facts, which are all of a report's record but the count (msgpack).
-- telling: how many of them are a reason to send a report at all; reports to us are not, or two servers would report
-- about each other's reports for ever.
CREATE TABLE dmarc_count (
    day INTEGER NOT NULL,
    domain TEXT NOT NULL,
    digest BLOB NOT NULL,
    facts BLOB NOT NULL,
    count INTEGER NOT NULL,
    telling INTEGER NOT NULL,
    PRIMARY KEY (day, domain, digest)
) WITHOUT ROWID;

-- One row per report and destination. kind: 'dmarc' or 'tls'. day: that it is about. target: an address or a URL, ''
-- where nobody got it. letter: its id in history and in the queue, NULL where none was sent. result: 'posted' (ask the
-- letter), 'taken' (by a web server), 'failed', 'nobody'. records: of the report; letters: or sessions, that it counts.
CREATE TABLE report_sent (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    day INTEGER NOT NULL,
    report_id TEXT NOT NULL,
    at REAL NOT NULL,
    target TEXT NOT NULL,
    target_domain TEXT NOT NULL,
    letter INTEGER,
    result TEXT NOT NULL,
    reason TEXT NOT NULL,
    records INTEGER NOT NULL,
    letters INTEGER NOT NULL
);

CREATE INDEX report_sent_by_domain ON report_sent (domain, day);

-- Letters that came to an address for reports and have not been looked at. letter: as in history; blob: the content.
CREATE TABLE report_waiting (
    letter INTEGER PRIMARY KEY,
    blob INTEGER NOT NULL,
    at REAL NOT NULL
);

-- Reports of others about our domains. sender: the domain that was authenticated as the letter's author, '' where it
-- was not checked. begin_at, end_at: the period. passed, failed: letters or sessions. details: all but the rows of
-- report_source (msgpack).
CREATE TABLE report_received (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    organization TEXT NOT NULL,
    report_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    begin_at INTEGER NOT NULL,
    end_at INTEGER NOT NULL,
    at REAL NOT NULL,
    letter INTEGER NOT NULL,
    passed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    sources INTEGER NOT NULL,
    details BLOB NOT NULL
);

CREATE UNIQUE INDEX report_received_by_name ON report_received (kind, domain, organization, report_id);
CREATE INDEX report_received_by_time ON report_received (domain, kind, end_at);

-- source: the address that sent (DMARC), or that of the server that was asked for TLS; '' for many together. passed: 1 or
-- 0. facts: the rest (msgpack).
CREATE TABLE report_source (
    report INTEGER NOT NULL,
    number INTEGER NOT NULL,
    source TEXT NOT NULL,
    passed INTEGER NOT NULL,
    count INTEGER NOT NULL,
    facts BLOB NOT NULL,
    PRIMARY KEY (report, number)
) WITHOUT ROWID;

-- Letters that look like reports and are not kept as such, and why.
CREATE TABLE report_unread (
    letter INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    reason TEXT NOT NULL
);
