"""MLflow's side of the project: runs, registry, gate, promotion."""
