"""The ledger: double entry by transfers between two accounts of one asset.

Owns: accounts, balances, transfers, holds, refusals, the chain of committed batches.
Invariants: every asset sums to zero; a balance is the sum of its transfers; transfers and balances never
change after the fact; an id is posted once; one process at a time writes. Tables: ledger.accounts, .limits,
.transfers (in segments), .archives and .archived (segments that were moved to files), .refusals, .batches,
.head, .writer; .marks, .snapshots and .tree_nodes follow from them.
Announces: nothing; whoever submits a unit puts its announcement into it.
Needs: a clock.

Doors: `model` (the nouns), `ports` (`CommitLane`, `Ledger`), `operations`, `queries`, `verify`, `receipts`,
`archive`, `memory` (the same in memory, for simulations), `rules` (how transfers are decided). Behind
`operations` are `writer` and `forward`.
"""
