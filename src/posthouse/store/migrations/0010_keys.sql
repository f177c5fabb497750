-- SPDX-License-Identifier: Apache-2.0
-- DKIM keys that take turns, and keys of the host's own name.

-- domain: NULL for the host's own. name: the domain of the signatures (d=). private_key is sealed; public_key is the
-- base64 text of the DNS record's p= tag. state: 'published' (its record is asked for, nothing is signed with it yet),
-- 'active', 'retired' (its record stays for letters on their way), 'withdrawn' (its record may go). changed_at: since
-- when it is in that state. seen_at: since when DNS shows the record of a published key, NULL where it does not.
CREATE TABLE dkim_key_in_turn (
    id INTEGER PRIMARY KEY,
    domain INTEGER REFERENCES domain (id),
    name TEXT NOT NULL,
    selector TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_key BLOB NOT NULL,
    public_key TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    seen_at REAL,
    UNIQUE (name, selector)
);

INSERT INTO dkim_key_in_turn (id, domain, name, selector, algorithm, private_key, public_key, state, created_at,
    changed_at)
SELECT k.id, k.domain, d.name, k.selector, k.algorithm, k.private_key, k.public_key, k.state, k.created_at,
    k.created_at
FROM dkim_key k JOIN domain d ON d.id = k.domain;

DROP TABLE dkim_key;

ALTER TABLE dkim_key_in_turn RENAME TO dkim_key;
