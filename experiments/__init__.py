"""Programs: train, sample and evaluate by config."""
