"""The way from any process to the one that writes the ledger.

`calls` has both ends of it (`Forwarder`, `Reception`) and what can be asked (`Door`); `line` is a connection,
`greeting` how its ends prove themselves, `wire` how calls and answers are written.
"""
