"""VMs as the contract's machines: across the pool, of one host, and as if the pool were one host.

The same endpoints stand under `/machines`, `/orchestrator/machines` and
`/orchestrator/hosts/{host}/machines`; a machine is named by its id or its name in all of them.
"""
