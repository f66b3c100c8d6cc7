"""`skewscope policy reset-breaker`."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path

from ..errors import UsageError


class PolicyResetBreaker:
    """Close the breaker: a person says that acting may go on, and why; the audit keeps both."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        add = parser.add_argument
        add("--audit", metavar="FILE", required=True, help="the audit of the service that acts")
        add("--reason", metavar="TEXT", required=True, help="why acting may go on: what was found and mended")
        add("--person", metavar="NAME", default=None, help="who says so (the name of the login)")

    def run(self, args: argparse.Namespace) -> int:
        """Write it into the audit; exit code 0 also where the breaker was closed already."""
        from ..acting.audit import Audit
        from ..acts import plain_text
        from ..policy.ledger import Ledger

        path = Path(args.audit)
        if not path.is_file():
            raise UsageError(f"--audit {path}: no such file; it is what `skewscope watch --audit` writes")
        if not args.reason.strip():
            raise UsageError("--reason is empty: say what was found and mended")
        audit = Audit(path)
        why = Ledger.of(audit.records()).breaker
        if not why:
            print("the breaker is closed already")
            return 0
        person = plain_text(args.person or getpass.getuser())
        audit.append("breaker", result="closed", actor=person, detail=plain_text(args.reason))
        print(f"closed by {person}; it was open: {why}")
        return 0
