"""Images, as manifests of the contract, and other catalogs, its “catalog managers”."""
