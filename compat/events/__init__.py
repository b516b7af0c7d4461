"""The events hub: what happens, told over a WebSocket in the contract's words."""
