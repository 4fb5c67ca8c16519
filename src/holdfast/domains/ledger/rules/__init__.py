"""How transfers are decided, without a database.

`rulebook` says what a transfer means, one after the other; `plan` makes arrays of a batch, and `book` decides
it on balances in memory with the outcome of the rulebook; `seen` knows which ids are new; `chain` hashes what
was decided.
"""
