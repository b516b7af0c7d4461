"""Hosts, what they cache, their logs and reverse proxies; and how a host enrols itself."""
