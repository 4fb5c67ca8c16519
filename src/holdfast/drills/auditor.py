"""The auditor of a drill.

Judges from the providers' own books and from our ledger's accounts, not from what payments say.

Read after everything late has arrived. It shares no code with the flows; it knows the chart of accounts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.domains.payments.model import PaymentState
from holdfast.domains.payments.rules.cascade import BALANCE_RAIL as WALLET
from holdfast.drills.draw import NEVER, Draw
from holdfast.drills.world import HoldfastRun
from holdfast.flows import chart

ENDED: Final = (PaymentState.SUCCEEDED, PaymentState.FAILED, PaymentState.CANCELED)
FINDINGS_MAX: Final = 50
"""Findings told in words; the counts are complete."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books say in the end. `findings` tells the first of what is wrong, in words.

    `double_charges_kept`: payments for which more than one charge stays with the payer, rails and wallet
    taken together. `money_lost_minor`: over all payments, what a payer is short beyond the price of what was
    sold to them, plus what was sold without a charge. `books_balanced`: the ledger sums to zero, each rail
    owes us exactly what it keeps, the merchant has exactly what was sold, and nothing is left in suspense.
    """

    double_charges_kept: int
    money_lost_minor: int
    books_balanced: bool
    in_doubt: int
    announced_twice: int
    findings: tuple[str, ...]


def audit(run: HoldfastRun, draw: Draw) -> Audit:
    """Return the auditor's findings on a run."""
    findings: list[str] = list(run.crashes)
    kept, charges = _kept(run)
    double = lost = open_payments = sold_minor = 0
    for payment, amount in enumerate(draw.amount_minor):
        stands = run.states.get(payment)
        from_wallet = _paid_from_wallet(run, draw, payment)
        sold = stands is not None and stands.state is PaymentState.SUCCEEDED
        due = amount if sold else 0
        sold_minor += due
        paid = kept[payment] + from_wallet
        if charges[payment] + (from_wallet > 0) > 1:
            double += 1
            findings.append(
                f"payment {payment} keeps {charges[payment]} charges, and {from_wallet} of the balance"
            )
        if paid != due:
            lost += abs(paid - due)
            findings.append(f"payment {payment}: {paid} left the payer where {due} was due")
        if stands is None or stands.open or stands.state not in ENDED:
            open_payments += 1
            findings.append(
                f"payment {payment} has not ended: {stands.state.value if stands else 'never opened'}"
            )
    twice = sum(count > 1 for count in run.announced)
    wrong = _books(run, draw, sold_minor)
    findings += wrong
    return Audit(double, lost, not wrong, open_payments, twice, tuple(findings[:FINDINGS_MAX]))


def _kept(run: HoldfastRun) -> tuple[list[int], list[int]]:
    """Return for each payment what providers keep of it, minor units, and by how many charges."""
    kept, charges = [0] * len(run.payers), [0] * len(run.payers)
    for rail in run.rails.values():
        for entry in rail.book.values():
            stays = entry.kept_minor()
            kept[entry.payment] += stays
            charges[entry.payment] += stays > 0
    return kept, charges


def _net(run: HoldfastRun, number: int) -> int:
    """Return credits less debits of an account, minor units."""
    books = run.ledger.book.accounts.get(number)
    return 0 if books is None else books.credits_posted - books.debits_posted


def _paid_from_wallet(run: HoldfastRun, draw: Draw, payment: int) -> int:
    """Return what of the payer's own balance is gone, minor units.

    Negative when the wallet holds more than they brought.
    """
    account = chart.payer(run.payers[payment], draw.scenario.asset).number
    return run.opened_minor[payment] - _net(run, account)


def _books(run: HoldfastRun, draw: Draw, sold_minor: int) -> list[str]:
    """Return what does not agree between the ledger and the world."""
    code = draw.scenario.asset
    wrong: list[str] = []
    every = run.ledger.book.accounts.values()
    debited, credited = sum(b.debits_posted for b in every), sum(b.credits_posted for b in every)
    if debited != credited:
        wrong.append(f"the ledger does not sum to zero: debits {debited}, credits {credited}")
    if any(b.debits_pending or b.credits_pending for b in every):
        wrong.append("the ledger holds reservations although nothing is under way")
    for name, rail in run.rails.items():
        keeps = sum(entry.kept_minor() for entry in rail.book.values())
        owes = -_net(run, chart.rail(name, code).number)
        if keeps != owes:
            wrong.append(f"{name} keeps {keeps} and the ledger says that it owes us {owes}")
    if _net(run, chart.rail(WALLET, code).number):
        wrong.append("money is under way between the payers' balances and the merchant")
    earned = _net(run, chart.merchant(run.merchant, code).number)
    if earned != sold_minor:
        wrong.append(f"the merchant sold for {sold_minor} and has {earned}")
    suspense = _net(run, chart.in_doubt(code).number)
    if suspense:
        wrong.append(f"{suspense} is left in suspense")
    return wrong


def ended(run: HoldfastRun) -> float | None:
    """Return when the last thing was settled, seconds; None when something is still open."""
    return None if run.ended_s == NEVER else run.ended_s
