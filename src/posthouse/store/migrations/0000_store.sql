-- SPDX-License-Identifier: Apache-2.0
-- What the machinery of the store knows about itself. It is written by store/blobs/ledger.py alone.

-- One row per pack file that any other row may refer to. A file without a row was never acknowledged.
CREATE TABLE pack (
  number INTEGER PRIMARY KEY,  -- milliseconds since the epoch at its creation, made to grow; names the file
  kind INTEGER NOT NULL,       -- 1: many records; 2: one spooled content
  state INTEGER NOT NULL,      -- 1: growing; 2: sealed; 3: sealed, its file to be cut to size at the next start
  size INTEGER NOT NULL        -- octets that count; of the growing pack see store_state.tail
);

CREATE TABLE store_state (
  id INTEGER PRIMARY KEY,            -- always 1
  pack INTEGER NOT NULL,             -- "indexed up to": records behind (pack, tail) were never acknowledged
  tail INTEGER NOT NULL,
  last_id INTEGER NOT NULL,          -- the greatest id and pack number given out so far
  last_pack INTEGER NOT NULL,
  lineage INTEGER NOT NULL,          -- must be the number in packs/lineage, or the packs are another database's
  lineage_before INTEGER NOT NULL
);

INSERT INTO store_state (id, pack, tail, last_id, last_pack, lineage, lineage_before) VALUES (1, 0, 0, 0, 0, 0, 0);
