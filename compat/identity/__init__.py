"""Logging in, and what one finds about accounts: users, roles, claims, API keys, preferences."""
