"""The one process that writes the ledger.

`seat` elects it and leads everybody else to it; `lane` gathers what arrives together into a `batch`, `commit`
carries it to the tables, and `behind` does what need not be waited for.
"""
