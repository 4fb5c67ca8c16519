"""Providers to practise on.

A process that speaks their real wire protocols, keeps their books, and fails on request.

Owns: named instances (`north` and `south` speak Stripe's protocol, `harbour` an instant credit transfer
that confirms later), each with objects, idempotency keys, a book, webhooks owed, and faults that somebody
has set. Invariants: what a provider has done is durable before it is answered, so killing this process
un-charges nobody; which request a fault hits is drawn from the seed and the request alone, so a run can be
repeated. Never in production: it takes no real money and accepts any test key.
"""
