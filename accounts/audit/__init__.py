"""The audit trail: `audit()` in the verb's transaction, a hash chain by the sealer.

`recording` writes, `chain` seals and verifies, `reading` narrows, `exporting` hands out.
"""

from __future__ import annotations

from accounts.audit.chain import Verdict, seal_audit, verify
from accounts.audit.recording import audit

__all__ = ["Verdict", "audit", "seal_audit", "verify"]
