"""Payments: what merchants ask for, how it is tried on rails, what is known of each try.

Owns: payments, attempts, capture tokens, the record of every request, journals, refunds, evidence, advances.
Invariants: I1 to I12 of `docs/explanation/payment-protocol.md`; above all, at most one unreversed charge
per payment at every instant, and nothing in doubt is ever called failed.
Tables: payments.payments, .attempts, .capture_tokens, .sends, .journal, .refunds, .evidence,
.stand_ins.
Announces: payment.created, .processing, .pending, .authorized, .succeeded, .failed, .canceled;
refund.succeeded, .failed; top_up.succeeded; credit.returned.
Needs: rails (`ports.Rail`), a router (`rules.router.Router`), a commit lane.

Doors: `model` (the nouns), `ports` (what rails are), `errors`, `rules` (`lifecycle`: the table; `cascade`:
what to do next; `evidence`: what news makes of an attempt; `plan`; `refunds`; `settings`), `store`, `memory`
(the same in memory, for simulations and drills).
"""
