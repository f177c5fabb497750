-- SPDX-License-Identifier: Apache-2.0
-- Reports of strangers: what they can take has bounds, and nobody takes a name from somebody else.

-- The name of a report is its sender's: with organization and report_id alone, which anybody may write, the first to
-- come could keep another's report out.
DROP INDEX report_received_by_name;
CREATE UNIQUE INDEX report_received_by_name ON report_received (kind, domain, sender, organization, report_id);

-- What came within a day is added up before each report is kept.
CREATE INDEX report_received_by_arrival ON report_received (at);

-- What went to a domain is looked for before each report to it.
CREATE INDEX report_sent_by_target ON report_sent (target_domain, at);

-- tries: processes that have begun to read it. One that ends them all is put aside.
ALTER TABLE report_waiting ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
