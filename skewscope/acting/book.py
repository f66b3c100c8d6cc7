"""An audit together with what follows from it: the policy's ledger and the engine's journal, always up to date."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..policy.ledger import Ledger
from .audit import Audit, Record
from .journal import Journal


class Book:
    """Appends to an audit and folds all its records, those of other processes too. Raises AuditError as the audit."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self.ledger, self.journal = Ledger(), Journal()
        self.counts: Counter[tuple[str, str, str]] = Counter()  # scheduler, verb, phase
        self._folded = 0
        self.catch_up()

    @property
    def count(self) -> int:
        """How many records were folded."""
        return self._folded

    def append(self, phase: str, **told: Any) -> Record:  # noqa: ANN401 - any JSON value
        """Write a record down and fold it."""
        record = self.audit.append(phase, **told)
        self.catch_up()
        return record

    def catch_up(self) -> None:
        """Fold what others wrote meanwhile."""
        records = self.audit.records()
        for place in range(self._folded, len(records)):
            record = records[place]
            self.ledger.add(record)
            self.journal.add(record)
            self.counts[record.get("scheduler", ""), record.get("verb", ""), record["phase"]] += 1
        self._folded = len(records)
