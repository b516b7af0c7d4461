"""Single sign-on by OpenID Connect: allauth speaks it, here is what the product decides.

Which provider, and what its claims mean, comes from the settings `OIDC_…` (docs/signing-in.md).
"""
