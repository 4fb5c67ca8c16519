"""The status service: what outlives the wallet and tells the truth about it."""
