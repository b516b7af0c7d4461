"""`/api/v2/` of templates, grants and VMs; and `tokens/`, which needs templates by name."""

from vms.api.urls import urlpatterns

__all__ = ["urlpatterns"]
