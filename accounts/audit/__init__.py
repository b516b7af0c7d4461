"""The audit trail: `audit()` in the verb's transaction, a hash chain by the sealer.

`recording` writes, `chain` seals and verifies, `reading` narrows, `exporting` hands out.
"""

from __future__ import annotations

from accounts.audit.chain import Verdict, check_if_due, keep, prune, seal_audit, verify
from accounts.audit.recording import audit, changed

__all__ = ["Verdict", "audit", "changed", "check_if_due", "keep", "prune", "seal_audit", "verify"]
