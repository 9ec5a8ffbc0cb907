"""Which track of a trace a slice goes to, so that no viewer drops it."""

from __future__ import annotations


class Tracks:
    """Gives each slice of a lane a track where it fits: slices of one track never overlap in part.

    A lane that may nest (the token loop) takes a slice inside another; one that may not (an I/O slot) only one after another. What fits
    on no track of its lane opens one more. Slices come by start, the longer first.
    """

    def __init__(self) -> None:
        self.lanes: list[tuple[int, int]] = []  # (lane, number among the lane's tracks) of each track
        self._open: dict[int, list[tuple[int, list[int]]]] = {}  # lane → (track, ends of the slices around, outermost first)

    def place(self, lane: int, start: int, end: int, nests: bool) -> int:
        """The track of the slice from ``start`` to ``end``, counted from 0 in order of appearance."""
        tracks = self._open.setdefault(lane, [])
        for track, ends in tracks:
            while ends and ends[-1] <= start:
                ends.pop()
            if not ends or (nests and end <= ends[-1]):
                ends.append(end)
                return track
        self.lanes.append((lane, len(tracks)))
        tracks.append((len(self.lanes) - 1, [end]))
        return len(self.lanes) - 1
