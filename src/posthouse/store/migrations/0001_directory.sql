-- SPDX-License-Identifier: Apache-2.0
-- Who is who: tenants, domains, accounts, addresses, credentials, keys, settings.
-- Every account has at least one address row; account.name is its primary address as text.

CREATE TABLE tenant (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Everything belongs to a tenant from the first row on; one house needs just this one.
INSERT INTO tenant (id, name) VALUES (1, 'default');

-- alias_of: another domain whose addresses this one shares (never an alias itself).
-- catch_all: where letters for unknown local parts go, an address as text.
CREATE TABLE domain (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL UNIQUE,
    alias_of INTEGER REFERENCES domain (id),
    catch_all TEXT,
    created_at REAL NOT NULL
);

CREATE INDEX domain_by_alias_of ON domain (alias_of);

-- state: 'active' or 'disabled'. quota in octets, NULL for none. used_octets and used_letters are counters,
-- modseq and journal_floor the account's change numbers; the mailbox functions keep them.
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    quota INTEGER,
    language TEXT NOT NULL DEFAULT 'en',
    is_admin INTEGER NOT NULL DEFAULT 0,
    display_name TEXT NOT NULL DEFAULT '',
    used_octets INTEGER NOT NULL DEFAULT 0,
    used_letters INTEGER NOT NULL DEFAULT 0,
    modseq INTEGER NOT NULL DEFAULT 0,
    journal_floor INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
);

-- local_part is folded (see posthouse.store.directory.fold). kind: 'account' or 'alias'.
CREATE TABLE address (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL REFERENCES domain (id),
    local_part TEXT NOT NULL,
    kind TEXT NOT NULL,
    account INTEGER REFERENCES account (id),
    UNIQUE (domain, local_part)
);

CREATE INDEX address_by_account ON address (account);

CREATE TABLE alias_target (
    address INTEGER NOT NULL REFERENCES address (id),
    position INTEGER NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (address, position)
) WITHOUT ROWID;

-- kind: 'password' (a hash as text), 'scram-sha-256', 'scram-sha-1' (sealed), 'app-password' (a keyed hash).
-- prefix: the public first part of an app password, by which it is found. scopes: words separated by blanks,
-- empty for all of them.
CREATE TABLE credential (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    kind TEXT NOT NULL,
    prefix TEXT,
    secret BLOB NOT NULL,
    scopes TEXT NOT NULL DEFAULT '',
    label TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    last_used_at REAL
);

CREATE INDEX credential_by_account ON credential (account, kind);
CREATE UNIQUE INDEX credential_by_prefix ON credential (prefix);

-- private_key is sealed; public_key is the base64 text of the DNS record's p= tag. state: 'active' or 'retired'.
CREATE TABLE dkim_key (
    id INTEGER PRIMARY KEY,
    domain INTEGER NOT NULL REFERENCES domain (id),
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_key BLOB NOT NULL,
    public_key TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    UNIQUE (domain, selector)
);

CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
