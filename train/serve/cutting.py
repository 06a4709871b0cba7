r"""Cutting: an answer ends where one of its stop texts begins, and what might yet become one is held back.

In:  pieces of text as they come. Out: pieces that may be shown.
Holds: what was shown is never taken back, and put together it is the text up to the first stop.
    stops ["\nQ:"]   "four.\n" → "four."   "Q: and" → ""   cut
"""

from collections.abc import Sequence


class Cutter:
    """Takes pieces, gives what may be shown."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held = list(stops), ""
        self.cut = False

    def feed(self, piece: str) -> str:
        """What may be shown now that `piece` has come; nothing once it is cut."""
        if self.cut:
            return ""
        self._held += piece
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self.cut = bool(places)
        n_shown = min(places) if places else len(self._held) - self._n_open()
        shown, self._held = self._held[:n_shown], self._held[n_shown:]
        return shown

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        return "" if self.cut else self._held

    def _n_open(self) -> int:
        """Characters at the end that may be the beginning of a stop."""
        longest = max(map(len, self._stops), default=1) - 1
        tails = (self._held[-n:] for n in range(min(longest, len(self._held)), 0, -1))
        return next((len(tail) for tail in tails if any(stop.startswith(tail) for stop in self._stops)), 0)
