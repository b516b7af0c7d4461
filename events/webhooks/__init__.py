"""Webhooks: events, sent to addresses that people name, signed and tried again.

This room only sends. Who may have a webhook, and its audit, is `accounts.webhooks`.
"""
