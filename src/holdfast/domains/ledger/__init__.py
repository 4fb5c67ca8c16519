"""The ledger: double entry by transfers between two accounts of one asset.

Owns: accounts, balances, transfers, holds, refusals, the chain of committed batches.
Invariants: every asset sums to zero; a balance is the sum of its transfers; transfers and balances never
change after the fact; an id is posted once. Tables: ledger.accounts, .balances, .transfers, .open_holds,
.refusals, .batches, .marks.
Announces: nothing; whoever submits a unit puts its announcement into it.
Needs: a clock.

Doors: `model` (the nouns), `ports` (`CommitLane`, `Ledger`), `operations`, `queries`, `verify`, `memory` (the
same in memory, for simulations), `rules` (the sequential meaning of a transfer).
"""
