from __future__ import annotations

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """Images, where they come from, and what hosts cache of them."""

    name = "catalog"

    def ready(self) -> None:
        from catalog import (
            cache_jobs,
            caches,
            caching,
            collecting,
            images,
            importing,
            metadata,
            pushing,
            sources,
            uploading,
        )
        from catalog.api import CacheDeleteInput, PullManyInput
        from catalog.forms import CachesForm
        from hosts import lifecycle
        from hosts.bulk import host_verb
        from jobs import batches, handlers

        lifecycle.register(inventory=caches.record)
        for kind, handler in {
            **cache_jobs.HANDLERS,
            **metadata.HANDLERS,
            **pushing.HANDLERS,
            **collecting.HANDLERS,
            **uploading.HANDLERS,
        }.items():
            handlers.register(kind, handler)
        handlers.register(sources.IMPORT, importing.ImportHandler())
        handlers.register_at_once(*images.VERBS, collecting.QUOTA)
        batches.register(
            caching.PULL,
            host_verb(
                "Pull into the cache",
                caching.pull_named,
                form=CachesForm,
                options=PullManyInput,
            ),
        )
        batches.register(
            caching.DELETE,
            host_verb(
                "Delete from the cache",
                caching.delete,
                form=CachesForm,
                options=CacheDeleteInput,
                danger=True,
            ),
        )
