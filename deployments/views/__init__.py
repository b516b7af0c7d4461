"""Pages of packages, environments, dictionaries, and the wizard. Tasks have their own."""
