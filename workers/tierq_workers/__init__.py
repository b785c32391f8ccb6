"""What a tier's worker pool runs: engine, chain execution, provider adapters, recorder and sweeper."""
