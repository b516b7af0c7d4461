"""`/api/v2/`: packages, environments, dictionaries, previews. `deployments.running` has tasks."""
