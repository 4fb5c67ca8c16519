"""All of the ledger's SQL.

Posting in `posting`, reading in `reading`; `batch` makes the arrays that posting sends.
"""
