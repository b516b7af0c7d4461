"""Which versions of which applications a deployment brings along: dependencies and their ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from deployments.versions import Range, Version, parsed, range_of

LATEST, EXISTING = "latest", "existing"
MOST_TRIES = 20_000


class Unmet(Exception):
    """No set of versions meets all ranges; the text says which."""


class Candidate(Protocol):
    """A version of an application, with what it needs (application → text of a range)."""

    @property
    def application_name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def dependencies(self) -> Mapping[str, str]: ...


One = TypeVar("One", bound=Candidate)
Held = TypeVar("Held", bound=Candidate, covariant=True)
Need = tuple[str, str, Range]  # who needs it, the application, its range


class Shelf(Protocol[Held]):
    """Where versions of applications are found, by lower-case name."""

    def versions(self, name: str) -> Sequence[Held]: ...


@dataclass
class Search(Generic[One]):
    """Looks for one version of each needed application, the best ones first.

    `shelf` has the versions of applications, `installed` are those that are on the environment.
    LATEST takes the newest that fits; EXISTING keeps an installed one that fits, else the newest.
    """

    shelf: Shelf[One]
    installed: Mapping[str, One]
    strategy: str = LATEST
    tries: int = 0
    blame: str = ""

    def around(self, root: One) -> dict[str, One]:
        """Return root and all that it needs, by lower-case name of the application.

        Raises `Unmet` with the range that cannot be met.
        """
        name = root.application_name.lower()
        found = self._solve({name: root}, self._of(root))
        if found is None:
            raise Unmet(self.blame)
        return found

    def _of(self, one: One) -> list[Need]:
        title = f"{one.application_name} {one.version}"
        return [(title, name, range_of(text)) for name, text in one.dependencies.items()]

    def _solve(
        self,
        chosen: dict[str, One],
        open_needs: list[Need],
    ) -> dict[str, One] | None:
        for number, need in enumerate(open_needs):
            one = chosen.get(need[1].lower())
            if one is None:
                return self._choose(chosen, open_needs[number:])
            if one.version not in need[2]:
                self._blame(need, f"but {one.application_name} {one.version} is taken")
                return None
        return chosen

    def _choose(
        self,
        chosen: dict[str, One],
        open_needs: list[Need],
    ) -> dict[str, One] | None:
        need = open_needs[0]
        name = need[1].lower()
        ranges = [one[2] for one in open_needs if one[1].lower() == name]
        fitting = [one for one in self._candidates(name) if all(one.version in r for r in ranges)]
        if not fitting:
            self._blame(need, f"and there is no such version of {need[1]}")
        for one in fitting:
            self.tries += 1
            if self.tries > MOST_TRIES:
                raise Unmet("The dependencies have too many combinations; narrow their ranges.")
            # Its own needs come last; what earlier ones said about it is in `ranges`.
            found = self._solve({**chosen, name: one}, [*open_needs[1:], *self._of(one)])
            if found is not None:
                return found
        return None

    def _candidates(self, name: str) -> list[One]:
        there = self.installed.get(name)
        rest = sorted(self.shelf.versions(name), key=_age, reverse=True)
        if there is not None and self.strategy == EXISTING:
            return [there, *(one for one in rest if one.version != there.version)]
        return rest

    def _blame(self, need: Need, why: str) -> None:
        self.blame = f"{need[0]} needs {need[1]} {need[2].text}, {why}."


def _age(one: Candidate) -> tuple[bool, Version]:
    version = parsed(one.version)
    return (version is not None, version or Version((0, 0, 0, 0)))
