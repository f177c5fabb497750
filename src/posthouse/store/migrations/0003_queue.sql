-- SPDX-License-Identifier: Apache-2.0
-- What waits to be sent, and what became of what was sent. docs/queue-states.md tells the states' stories.
-- queue_* tables hold only what is not finished; a finished letter is one row of history.

-- blob: the content, kept while this row refers to it. parameters: MAIL FROM's parameters (msgpack).
-- prefix: octets that go before the content on the wire. open_recipients: those not finished yet;
-- at zero the letter moves to history.
CREATE TABLE queue_letter (
    id INTEGER PRIMARY KEY,
    blob INTEGER NOT NULL,
    account INTEGER,
    reverse_path TEXT NOT NULL,
    parameters BLOB NOT NULL,
    prefix BLOB NOT NULL,
    language TEXT NOT NULL,
    message_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    needs_eight_bit INTEGER NOT NULL,
    needs_smtputf8 INTEGER NOT NULL,
    received_at REAL NOT NULL,
    trace TEXT NOT NULL,
    open_recipients INTEGER NOT NULL
);

CREATE INDEX queue_letter_by_blob ON queue_letter (blob);

-- state: 'due', 'claimed', 'held', 'delivered', 'failed' or 'expired'; the last three are final and leave
-- with their letter. next_hop: 'local', a domain, an address literal, or '*' (the smart host).
-- warn_at: when the sender is told of a delay, NULL when he was told or never is. deadline_at: warn_at, or
-- expires_at where that is NULL. owner and leased_until: who has claimed it, until when; else NULL.
-- hold_asked: an operator asked for a hold while it was claimed. result: the last outcome (msgpack).
CREATE TABLE queue_recipient (
    id INTEGER PRIMARY KEY,
    letter INTEGER NOT NULL,
    address TEXT NOT NULL,
    notify INTEGER,
    original_recipient TEXT,
    next_hop TEXT NOT NULL,
    state TEXT NOT NULL,
    due_at REAL NOT NULL,
    warn_at REAL,
    expires_at REAL NOT NULL,
    deadline_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    hold_asked INTEGER NOT NULL,
    owner TEXT,
    leased_until REAL,
    result BLOB
);

CREATE INDEX queue_recipient_by_letter ON queue_recipient (letter);
CREATE INDEX queue_recipient_due ON queue_recipient (next_hop, due_at, id) WHERE state = 'due';
CREATE INDEX queue_recipient_deadline ON queue_recipient (next_hop, deadline_at, id) WHERE state = 'due';
CREATE INDEX queue_recipient_claimed ON queue_recipient (next_hop, id) WHERE state = 'claimed';
CREATE INDEX queue_recipient_held ON queue_recipient (next_hop, id) WHERE state = 'held';

-- One row per next hop that has recipients. ready_at: when it may next be looked at: not before its earliest
-- due recipient, and not before down_until; NULL when nothing is due. failures: attempts in a row in which no
-- session came about, since down_since; result: the last of their outcomes (msgpack).
CREATE TABLE queue_destination (
    next_hop TEXT PRIMARY KEY,
    ready_at REAL,
    failures INTEGER NOT NULL,
    down_since REAL,
    down_until REAL NOT NULL,
    result BLOB
);

CREATE INDEX queue_destination_ready ON queue_destination (ready_at, next_hop) WHERE ready_at IS NOT NULL;

-- One row per attempt: one mail transaction, or (letter NULL) a session that did not come about, which then
-- counts for every letter waiting for that next hop. results: outcomes with their recipients (msgpack).
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    letter INTEGER,
    next_hop TEXT NOT NULL,
    at REAL NOT NULL,
    host TEXT NOT NULL,
    address TEXT NOT NULL,
    tls TEXT NOT NULL,
    results BLOB NOT NULL
);

CREATE INDEX attempt_by_letter ON attempt (letter, id) WHERE letter IS NOT NULL;
CREATE INDEX attempt_by_next_hop ON attempt (next_hop, at) WHERE letter IS NULL;

-- One row per letter that has arrived or left. message_key: 64-bit hash of message_id. addresses: reverse-path
-- and recipients, folded, each between blanks, to search in. results: what became of each recipient (msgpack).
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    trace TEXT NOT NULL,
    message_key INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    account INTEGER,
    size INTEGER NOT NULL,
    received_at REAL NOT NULL,
    finished_at REAL NOT NULL,
    source TEXT NOT NULL,
    addresses TEXT NOT NULL,
    results BLOB NOT NULL
);

CREATE INDEX history_by_message ON history (message_key);
