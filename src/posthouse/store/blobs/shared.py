# SPDX-License-Identifier: Apache-2.0
"""The appender for a database with several transactions at a time: one record at a time, under a lock.

Invariant: `append` returns after the record is synced, so any transaction that commits later is safe. A
transaction that fails leaves dead octets, which compaction removes; nothing is ever cut behind others' backs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from posthouse.ports import BlobLocation, Content
from posthouse.store.blobs.appender import PackAppender
from posthouse.store.blobs.ledger import PackRow
from posthouse.store.faults import disk_fault


class SharedAppender:
    """`record` writes changes of packs down in a transaction of its own before any unit can refer to them."""

    def __init__(self, appender: PackAppender, record: Callable[[Sequence[PackRow]], None]) -> None:
        self._appender = appender
        self._record = record
        self._lock = Lock()

    def append(self, content: Content, note: bytes) -> BlobLocation:
        """Raises StoreFault."""
        with self._lock:
            appender = self._appender
            try:
                place = appender.reserve(content, note)
                if appender.rows:
                    self._record(tuple(appender.rows))
                    appender.rows.clear()
                appender.flush()
            except OSError as error:
                raise disk_fault("content cannot be stored", error) from error
            except BaseException:
                appender.drop()
                raise
            appender.settle()
            return place

    def close(self) -> None:
        with self._lock:
            self._appender.close()
