"""Regular expressions that a client sends, matched in bounded time.

Python's `re` can take exponential time for a few characters, and cannot be interrupted. Here a node
maps the set of positions where it may begin to the set where it may end, so nothing is tried twice,
and every step is counted: a pattern that needs too many is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.refusals import Invalid

LONGEST = 200  # characters of a pattern
LONGEST_TEXT = 1000  # characters of a text that are looked at
STEPS = 200_000  # for one pattern over all the texts of one request
_DEEPEST = 20

Positions = frozenset[int]
Node = Callable[[str, Positions], Positions]
Accepts = Callable[[str], bool]

_CLASSES: dict[str, Accepts] = {
    "d": str.isdigit,
    "D": lambda c: not c.isdigit(),
    "w": lambda c: c.isalnum() or c == "_",
    "W": lambda c: not (c.isalnum() or c == "_"),
    "s": str.isspace,
    "S": lambda c: not c.isspace(),
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r"}


class Pattern:
    """A compiled pattern. Raises `Invalid` when it is none, or needs too many steps."""

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        if len(text) > LONGEST:
            raise Invalid(f"The expression of the filter is longer than {LONGEST} characters.")
        self._text = text
        self._place = 0
        self._ignore_case = ignore_case
        self._steps = STEPS
        self._root = self._either(0)
        if self._place < len(text):
            raise self._wrong("a “)” without its “(”")

    def found_in(self, text: str) -> bool:
        """Return whether the pattern matches anywhere in `text`."""
        text = text[:LONGEST_TEXT]
        return bool(self._root(text, frozenset(range(len(text) + 1))))

    def matches_all(self, text: str) -> bool:
        """Return whether the pattern matches `text` from its beginning to its end."""
        return len(text) <= LONGEST_TEXT and len(text) in self._root(text, frozenset([0]))

    # Reading -----------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._text[self._place : self._place + 1]

    def _take(self) -> str:
        taken = self._peek()
        if not taken:
            raise self._wrong("something after its end")
        self._place += 1
        return taken

    def _took(self, text: str) -> bool:
        if self._text.startswith(text, self._place):
            self._place += len(text)
            return True
        return False

    def _wrong(self, what: str) -> Invalid:
        return Invalid(f"The expression of the filter is not valid: it has {what}.")

    def _either(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} groups in one another")
        ways = [self._sequence(depth)]
        while self._took("|"):
            ways.append(self._sequence(depth))
        if len(ways) == 1:
            return ways[0]

        def any_of(text: str, starts: Positions) -> Positions:
            return frozenset().union(*(way(text, starts) for way in ways))

        return any_of

    def _sequence(self, depth: int) -> Node:
        nodes: list[Node] = []
        while self._peek() and self._peek() not in "|)":
            nodes.append(self._repeated(self._one(depth)))

        def all_of(text: str, starts: Positions) -> Positions:
            for node in nodes:
                if not starts:
                    break
                starts = node(text, starts)
            return starts

        return all_of

    def _one(self, depth: int) -> Node:
        character = self._take()
        if character == "(":
            self._took("?:")
            if self._peek() == "?":
                raise self._wrong("a group of a kind that is not known here")
            node = self._either(depth + 1)
            if not self._took(")"):
                raise self._wrong("a “(” without its “)”")
            return node
        if character == "^":
            return lambda text, starts: starts & {0}
        if character == "$":
            return lambda text, starts: starts & {len(text)}
        if character == ".":
            return self._character(lambda c: c != "\n")
        if character == "[":
            return self._character(self._set())
        if character == "\\":
            return self._character(self._escaped())
        if character in "*+?":
            raise self._wrong(f"a “{character}” with nothing to repeat")
        return self._character(self._same(character))

    def _escaped(self) -> Accepts:
        character = self._take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum() and character not in _CONTROLS:
            raise self._wrong(f"“\\{character}”, which is not known here")
        return self._same(_CONTROLS.get(character, character))

    def _same(self, character: str) -> Accepts:
        if self._ignore_case:
            folded = character.casefold()
            return lambda c: c.casefold() == folded
        return lambda c: c == character

    def _set(self) -> Accepts:
        negated = self._took("^")
        accepts: list[Accepts] = []
        first = True
        while first or self._peek() != "]":
            first = False
            character = self._take()
            if character == "\\":
                accepts.append(self._escaped())
            elif self._peek() == "-" and self._text[self._place + 1 : self._place + 2] not in (
                "]",
                "",
            ):
                self._place += 1
                accepts.append(self._range(character, self._take()))
            else:
                accepts.append(self._same(character))
        self._place += 1
        return lambda c: any(one(c) for one in accepts) != negated

    def _range(self, low: str, high: str) -> Accepts:
        if low > high or high == "\\":
            raise self._wrong("a range that is none")
        if self._ignore_case:
            return lambda c: low <= c.lower() <= high or low <= c.upper() <= high
        return lambda c: low <= c <= high

    def _repeated(self, node: Node) -> Node:
        while True:
            if self._took("*"):
                node = self._repeat(node, 0, None)
            elif self._took("+"):
                node = self._repeat(node, 1, None)
            elif self._took("?"):
                node = self._repeat(node, 0, 1)
            elif bounds := self._bounds():
                node = self._repeat(node, *bounds)
            else:
                return node
            self._took("?")  # lazy or greedy is the same to who asks only whether

    def _bounds(self) -> tuple[int, int | None] | None:
        end = self._text.find("}", self._place)
        if self._peek() != "{" or end < 0:
            return None
        least, comma, most = self._text[self._place + 1 : end].partition(",")
        if not (least.isdecimal() and (most.isdecimal() or not most)):
            raise self._wrong("a “{” that counts nothing")
        self._place = end + 1
        numbers = int(least), (int(most) if most else None) if comma else int(least)
        if max(numbers[0], numbers[1] or 0) > LONGEST_TEXT:
            raise self._wrong(f"a repetition of more than {LONGEST_TEXT}")
        return numbers

    # Matching ----------------------------------------------------------------------------------

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise Invalid("The expression of the filter needs too long. Use a simpler one.")

    def _character(self, accepts: Accepts) -> Node:
        def one(text: str, starts: Positions) -> Positions:
            self._spend(len(starts) + 1)
            return frozenset(p + 1 for p in starts if p < len(text) and accepts(text[p]))

        return one

    def _repeat(self, node: Node, least: int, most: int | None) -> Node:
        def repeated(text: str, starts: Positions) -> Positions:
            for _ in range(least):
                self._spend(1)
                starts = node(text, starts)
            reached, fresh, left = starts, starts, None if most is None else most - least
            while fresh and left != 0:
                self._spend(1)
                fresh = node(text, fresh) - reached
                reached |= fresh
                left = left and left - 1
            return reached

        return repeated
