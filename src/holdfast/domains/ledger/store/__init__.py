"""All of the ledger's SQL: posting in `posting`, reading in `reading`; `batch` makes the arrays that posting sends."""
