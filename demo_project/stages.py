"""What the scenarios play on, and what they measure with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from demo_project.clients import PATH, Client, Payment
from demo_project.results import Check, Facts

RowsOf = Callable[[str], tuple[str, ...]]
LedgerOf = Callable[[str], dict[str, Any]]

_PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a scenario plays on: a client, a user that no other run has, and what database and bank know of the user."""

    scenario: str
    url: str
    client: Client
    user_id: str
    rows_of: RowsOf
    ledger_of: LedgerOf

    @property
    def rows(self) -> tuple[str, ...]:
        """The ids of the charges and payouts of this run."""
        return self.rows_of(self.user_id)

    def payment(self, amount_cents: int = 1000, *, path: str = PATH) -> Payment:
        """Return a new payment of this run's user."""
        return Payment(self.user_id, amount_cents, path=path)

    def paid_once(self, *, calls: int) -> tuple[Check, Check]:
        """Return what the books of the bank must say: one key that has paid once, however often it was called."""
        ledger = self.ledger_of(self.user_id)
        payments = [account["payments"] for account in ledger["by_key"].values()]
        return (
            Check(name="payments of the bank, by key", expected=[1], measured=payments),
            Check(name="calls of the bank", expected=calls, measured=ledger["calls"]),
        )

    def facts(self, *checks: Check, rows: int = 1) -> Facts:
        """Return what was measured so far."""
        return Facts(
            scenario=self.scenario,
            exchanges=tuple(self.client.exchanges),
            rows=self.rows,
            expected_rows=rows,
            checks=checks,
        )

    def await_row(self) -> None:
        """Wait until a row is committed."""
        deadline = time.monotonic() + _PATIENCE
        while not self.rows and time.monotonic() < deadline:
            time.sleep(0.02)


Scenario = Callable[[Stage], Facts]
