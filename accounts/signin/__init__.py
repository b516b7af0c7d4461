"""Signing in: how sure a session is of who sits there, locks, sessions, links, the first account.

allauth does the forms and the protocols; what the product adds to them is here.
"""
