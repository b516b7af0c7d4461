"""Opening the storage of a source from a job, and settling what it says when it says no."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings

from catalog.storage import StorageError, Trouble, open_storage
from catalog.storage.connections import provider_of
from jobs.handlers import Handler
from jobs.outcomes import Again, Fail, Outcome
from jobs.running import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from catalog.models import CatalogSource
    from catalog.storage import Provider, Storage
    from jobs.claims import Claim


def opened(provider: Provider) -> Storage:
    """Return a storage as the settings allow it; sends nothing. Raises `StorageError`."""
    return open_storage(
        provider,
        roots=settings.CATALOG_FOLDERS,
        environment_keys=settings.CATALOG_ENVIRONMENT_KEYS,
    )


@contextmanager
def storage_of(source: CatalogSource) -> Iterator[Storage]:
    """Open the storage of a source with its keys, for the calls of one step."""
    try:
        provider = provider_of(source.connection)
    except ValueError as error:
        raise StorageError(Trouble.SETTINGS, str(error)) from None
    if provider is None:
        raise StorageError(Trouble.SETTINGS, f"{source.name} is another catalog, not a storage.")
    storage = opened(provider)
    try:
        yield storage
    finally:
        storage.close()


class StorageHandler(Handler):
    """The base of job kinds that call a storage.

    A permanent error fails the job with a sentence, any other is tried again with growing pauses.
    """

    lost = "repeat"
    tries = 20

    def run(self, claim: Claim) -> Outcome:
        return self.settling(claim, super().run)

    def settling(self, claim: Claim, step: Callable[[Claim], Outcome]) -> Outcome:
        try:
            return step(claim)
        except StorageError as error:
            if error.permanent or claim.job.failures >= self.tries:
                return Fail(error.message)
            return Again(
                seconds=backoff(claim.job.failures),
                failed=True,
                message=f"{error.message} Trying again.",
            )
