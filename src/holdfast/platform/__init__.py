"""Machinery that knows nothing of wallets: database, migrations, batches, HTTP, jobs, logs, processes."""
