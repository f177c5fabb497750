-- SPDX-License-Identifier: Apache-2.0
-- What reading mail over IMAP needs beyond POP3: when a letter came into its mailbox, what threading asks, what is
-- \Recent, how keywords are spelled, and mailboxes that several people read.

-- saved_at: seconds since the epoch when the letter was put into this mailbox. 0: before this was kept, the time of
-- its arrival stands in.
ALTER TABLE placement ADD COLUMN saved_at INTEGER NOT NULL DEFAULT 0;

-- ancestors: ids in References, oldest first, without brackets, separated by blanks. NULL: not looked at yet.
ALTER TABLE email_detail ADD COLUMN ancestors BLOB;

-- recent_from: what has this UID or a higher one has not been shown as \Recent to any session.
ALTER TABLE mailbox ADD COLUMN recent_from INTEGER NOT NULL DEFAULT 1;

-- keyword: in lower case, as placements have it. spelling: as the client that used it first wrote it.
CREATE TABLE keyword_spelling (
    account INTEGER NOT NULL,
    keyword TEXT NOT NULL,
    spelling TEXT NOT NULL,
    PRIMARY KEY (account, keyword)
) WITHOUT ROWID;

-- Who but the owner may do what with a mailbox. person: an account, 0 for everybody. is_negative: 1 where these
-- rights are taken away. rights: letters of posthouse.store.rights, sorted.
CREATE TABLE mailbox_right (
    mailbox INTEGER NOT NULL,
    person INTEGER NOT NULL,
    is_negative INTEGER NOT NULL,
    rights TEXT NOT NULL,
    PRIMARY KEY (mailbox, person, is_negative)
) WITHOUT ROWID;

CREATE INDEX mailbox_right_by_person ON mailbox_right (person, mailbox);

-- What a person who is not the owner has seen of a mailbox: the owner's own is in the flags. modseq: of the unit that
-- last changed the row; a row with is_seen 0 stays, so that clients learn of it.
CREATE TABLE visitor_seen (
    mailbox INTEGER NOT NULL,
    person INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    is_seen INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    PRIMARY KEY (mailbox, person, uid)
) WITHOUT ROWID;

CREATE INDEX visitor_seen_by_person ON visitor_seen (person);

-- Names that a person is subscribed to beside the own mailboxes that are there: mailboxes of others, and own ones that
-- are gone. owner: the account that the mailbox belongs or belonged to. name: as that account has it.
CREATE TABLE subscribed_name (
    person INTEGER NOT NULL,
    owner INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (person, owner, name)
) WITHOUT ROWID;

CREATE INDEX subscribed_name_by_owner ON subscribed_name (owner, name);
