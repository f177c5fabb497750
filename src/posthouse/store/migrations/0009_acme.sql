-- SPDX-License-Identifier: Apache-2.0
-- What we have put into zones of DNS (`posthouse dns DOMAIN --update`), so that it can be taken away again.

-- One row per record. domain: whose records it belongs to. name, kind, value: as the port has them.
CREATE TABLE zone_record (
    id INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    put_at REAL NOT NULL
);
CREATE INDEX zone_record_by_domain ON zone_record (domain, name);
