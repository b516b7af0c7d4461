"""`/api/v2/hosts/`. Rooms above hang their own verbs on hosts by these bases."""

from hosts.api.hosts import HostVerb, HostView
from hosts.api.urls import urlpatterns

__all__ = ["HostVerb", "HostView", "urlpatterns"]
