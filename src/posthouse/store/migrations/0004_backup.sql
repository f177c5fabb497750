-- SPDX-License-Identifier: Apache-2.0
-- Backups under way: while a row is here that has not run out, no pack is removed (posthouse.store.holds).

CREATE TABLE backup_hold (
    id INTEGER PRIMARY KEY,
    began_at REAL NOT NULL,
    held_until REAL NOT NULL
);
