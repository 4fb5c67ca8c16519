"""The bank.

A small JSON protocol in the shape of an instant credit transfer, which confirms later and cannot be
cancelled.

The caller's `end_to_end_id` is the key of everything: repeating a request with it answers with the transfer
as it stands. What a caller can rely on, as with SEPA Instant (AcceptanceDateTime) or a payment code's own
expiry: from `expires_at` on, the bank settles nothing more for that id, also when the request itself
arrives later than that.

    received -> settled -> (returned in parts)
        |-> rejected        reason: an ISO 20022 external status reason code
        |-> expired
"""
