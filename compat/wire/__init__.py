"""The wire of the Parallels DevOps API, quirks included: paths, bodies, answers, errors, filters.

An endpoint is a subclass of `compat.wire.endpoints.Endpoint` with a method per HTTP method.
"""
