"""The pages of the catalog: images, sources, and what hosts cache."""

from catalog.views.images import shown_copies

__all__ = ["shown_copies"]
