"""The catalog's part of `/api/v2/`: sources, images, and what hosts cache."""

from catalog.api import caches, images, sources
from catalog.api.caches import CacheDeleteInput, PullManyInput
from catalog.api.images import DerivedOutput, derived

urlpatterns = [*sources.urlpatterns, *images.urlpatterns, *caches.urlpatterns]

__all__ = ["CacheDeleteInput", "DerivedOutput", "PullManyInput", "derived", "urlpatterns"]
