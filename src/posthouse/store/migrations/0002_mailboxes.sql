-- SPDX-License-Identifier: Apache-2.0
-- What is kept: mailboxes, letters, where they lie, what changed, which letters answer each other.
-- Content itself lies in the packs; a blob row says where. Rows written for every letter carry no foreign
-- keys: the functions that write them hold the references together and posthouse.store.integrity checks them.

-- name: the whole path, superiors separated by '/', Unicode in NFC; the inbox is always 'INBOX'.
-- special_use: '\Sent', '\Drafts', … or NULL; at most one mailbox of an account has each.
-- modseq: mod-sequence of the last unit that changed a placement here (HIGHESTMODSEQ).
-- tombstone_floor: of expunges at or below this mod-sequence nothing is known any more.
-- total, unseen, octets: counters over the mailbox's placements.
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    special_use TEXT,
    uid_validity INTEGER NOT NULL,
    uid_next INTEGER NOT NULL DEFAULT 1,
    modseq INTEGER NOT NULL,
    tombstone_floor INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0,
    unseen INTEGER NOT NULL DEFAULT 0,
    octets INTEGER NOT NULL DEFAULT 0,
    is_subscribed INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
);

CREATE UNIQUE INDEX mailbox_by_name ON mailbox (account, name);
CREATE UNIQUE INDEX mailbox_by_special_use ON mailbox (account, special_use);

-- The last UIDVALIDITY given out, in the one row (id 1): it grows with every mailbox, so no two ever share one.
CREATE TABLE uid_epoch (
    id INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
);

-- Names that a mailbox had and lost, with the highest UIDVALIDITY seen under them: whatever gets such a name
-- later must have a higher one. Forgotten together with the tombstones of that time.
CREATE TABLE retired_name (
    account INTEGER NOT NULL,
    name TEXT NOT NULL,
    uid_validity INTEGER NOT NULL,
    retired_at REAL NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;

-- Where content lies. Everything else holds the id, so moving content changes one row. hash: SHA-256.
CREATE TABLE blob (
    id INTEGER PRIMARY KEY,
    pack INTEGER NOT NULL,
    pack_offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    hash BLOB NOT NULL
);

CREATE INDEX blob_by_place ON blob (pack, pack_offset);

-- Octets of a pack that no blob row refers to any more: what compaction would win. since: of the oldest of them.
CREATE TABLE dead_octets (
    pack INTEGER PRIMARY KEY,
    octets INTEGER NOT NULL,
    since REAL NOT NULL
);

-- Why content is kept although no letter shows it (undelete, legal hold, archive). until: NULL = until released.
CREATE TABLE retention (
    blob INTEGER NOT NULL,
    reason TEXT NOT NULL,
    until REAL,
    PRIMARY KEY (blob, reason)
) WITHOUT ROWID;

-- A letter as one account has it: immutable, with an opaque id that IMAP, JMAP and POP3 show.
-- An account's emails are found through its placements: one index less for every letter to write.
-- size: octets of prefix and content together. header_size: octets of the content's header with its empty line.
CREATE TABLE email (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    blob INTEGER NOT NULL,
    thread INTEGER NOT NULL,
    received_at REAL NOT NULL,
    size INTEGER NOT NULL,
    header_size INTEGER NOT NULL,
    has_dot_lines INTEGER NOT NULL
);

CREATE INDEX email_by_blob ON email (blob);
CREATE INDEX email_by_thread ON email (thread);

-- What is read with a letter, not with a list. prefix: this recipient's own fields before the content.
-- summary: packed ENVELOPE values. structure, preview: NULL until first needed.
CREATE TABLE email_detail (
    email INTEGER PRIMARY KEY,
    prefix BLOB NOT NULL,
    summary BLOB NOT NULL,
    structure BLOB,
    preview TEXT,
    reverse_path TEXT NOT NULL,
    trace TEXT NOT NULL
);

-- A letter in a mailbox. flags: bit mask of system flags. keywords: sorted, separated by blanks. size: as in email.
-- created: mod-sequence of the unit that put it there. modseq: of the unit that last changed it.
CREATE TABLE placement (
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    email INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    created INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;

CREATE INDEX placement_by_email ON placement (email);

-- A placement that is no more; kept 90 days by default.
CREATE TABLE tombstone (
    mailbox INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    email INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, uid)
) WITHOUT ROWID;

-- One row for each unit of work, mailbox and kind of change. uids: a sequence set ('1:4,7'), empty for changes of
-- the mailbox itself. kind: see posthouse.store.journal.Kind.
CREATE TABLE journal (
    account INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    uids TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (account, modseq, mailbox, kind)
) WITHOUT ROWID;

-- hash: 63 bits over a message id and the base subject. See posthouse.store.threads.
CREATE TABLE thread_reference (
    account INTEGER NOT NULL,
    hash INTEGER NOT NULL,
    thread INTEGER NOT NULL,
    PRIMARY KEY (account, hash)
) WITHOUT ROWID;
