"""Payments: what a merchant asked for, how it was tried, and what is known of each try.

Owns: payments, attempts, capture tokens, requests sent, the journal, refunds, evidence, stand-ins.
Invariants: I1 to I12 of docs/explanation/payment-protocol.md; above all, at most one capture of a payment is kept,
and nothing leaves before it is journaled. Tables: payments.payments, .attempts, .capture_tokens, .sends,
.journal, .refunds, .evidence, .stand_ins.
Announces: payment.*, refund.*, top_up.succeeded, credit.returned.
Needs: rails (`ports.Rail`), who ranks them (`rules.router.Router`), the ledger behind a flow.

Doors: `model`, `ports`, `rules`, `store` for flows (writes and guards of a unit), `memory` (the same in memory).
"""
