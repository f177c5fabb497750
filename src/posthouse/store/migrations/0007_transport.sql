-- SPDX-License-Identifier: Apache-2.0
-- How letters leave: policies of other domains (MTA-STS), what is to be reported of TLS (TLSRPT), and letters that
-- rather go unprotected than not at all.

-- Policies that were fetched, by domain. policy_id: that of the record in DNS at that time. body: as it was served.
-- used_at: the last day on which a letter went there (rounded, so that it costs one write a day).
CREATE TABLE sts_policy (
    domain TEXT PRIMARY KEY,
    policy_id TEXT NOT NULL,
    body BLOB NOT NULL,
    fetched_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    refresh_at REAL NOT NULL,
    used_at REAL NOT NULL
);

CREATE INDEX sts_policy_by_refresh ON sts_policy (refresh_at);
CREATE INDEX sts_policy_by_expiry ON sts_policy (expires_at);

-- Sessions with other hosts, counted. day: days since the epoch, UTC. policy_type: 'tlsa', 'sts' or 'no-policy-found'.
-- policy_text and mx_patterns: one per line. result: '' for success, else the word of RFC 8460 §4.3.
CREATE TABLE tls_result (
    day INTEGER NOT NULL,
    policy_domain TEXT NOT NULL,
    policy_type TEXT NOT NULL,
    policy_text TEXT NOT NULL,
    mx_patterns TEXT NOT NULL,
    result TEXT NOT NULL,
    sending_ip TEXT NOT NULL,
    receiving_mx TEXT NOT NULL,
    receiving_helo TEXT NOT NULL,
    receiving_ip TEXT NOT NULL,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (
        day, policy_domain, policy_type, policy_text, mx_patterns, result, sending_ip, receiving_mx, receiving_helo,
        receiving_ip, reason
    )
);

-- tls_optional: the letter says TLS-Required: No (RFC 8689). There are few, so they have an index of their own.
ALTER TABLE queue_letter ADD COLUMN tls_optional INTEGER NOT NULL DEFAULT 0;
CREATE INDEX queue_letter_tls_optional ON queue_letter (id) WHERE tls_optional = 1;
