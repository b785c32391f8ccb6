"""What a tier's worker pool runs: the engine, the deployment chain, the provider adapters, the recorder and the sweeper."""
