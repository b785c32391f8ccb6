"""What is learned from the ledger and from samples: telemetry export, reports."""
