"""Which answer leaves when there is no room: W-TinyLFU, with counts in two rows of bytes.

After Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission
Policy" (ACM Transactions on Storage, 2017). A newcomer stands in a small window;
out of it, it takes the place of the one not used for longest only if it was asked
for more often. So what is asked for once, as by a crawler, displaces nothing.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["TinyLfu"]

_WINDOW_SHARE = 0.01
_PROTECTED_SHARE = 0.8
_AGE_AFTER = 10
"""Times as many uses as entries after which every count is halved."""
_MOST = 15
_HALVED = bytes(n // 2 for n in range(256))


class TinyLfu:
    """Keys with sizes, within a bound of each; says which must leave."""

    __slots__ = (
        "_entries",
        "_mask",
        "_max_bytes",
        "_probation",
        "_protected",
        "_protected_most",
        "_rows",
        "_uses",
        "_window",
        "_window_most",
        "bytes",
        "sizes",
    )

    def __init__(self, entries: int, max_bytes: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._window_most = max(int(entries * _WINDOW_SHARE), 1)
        self._protected_most = int((entries - self._window_most) * _PROTECTED_SHARE)
        self._window: OrderedDict[bytes, None] = OrderedDict()
        self._probation: OrderedDict[bytes, None] = OrderedDict()
        self._protected: OrderedDict[bytes, None] = OrderedDict()
        width = 1 << max(entries * 8 - 1, 1).bit_length()
        self._mask = width - 1
        self._rows = (bytearray(width), bytearray(width))
        self._uses = 0
        self.sizes: dict[bytes, int] = {}
        self.bytes = 0

    def touch(self, key: bytes) -> None:
        """Somebody asked for a key that is held."""
        self.count(key)
        if key in self._protected:
            self._protected.move_to_end(key)
        elif key in self._window:
            self._window.move_to_end(key)
        elif key in self._probation:
            del self._probation[key]
            self._protected[key] = None
            if len(self._protected) > self._protected_most:
                self._probation[self._protected.popitem(last=False)[0]] = None

    def count(self, key: bytes) -> None:
        """Count one use of a key, held or not."""
        digest = hash(key)
        one, two = self._rows
        at, too = digest & self._mask, (digest >> 32) & self._mask
        if one[at] < _MOST:
            one[at] += 1
        if two[too] < _MOST:
            two[too] += 1
        self._uses += 1
        if self._uses >= self._entries * _AGE_AFTER:
            self._uses //= 2
            self._rows = (one.translate(_HALVED), two.translate(_HALVED))

    def add(self, key: bytes, size: int) -> list[bytes]:
        """Hold a key, or give a held one another size; returns those that must leave for it."""
        known = self.sizes.get(key)
        self.sizes[key] = size
        self.bytes += size - (known or 0)
        gone: list[bytes] = []
        if known is None:
            self._window[key] = None
        while len(self._window) > self._window_most:
            candidate = self._window.popitem(last=False)[0]
            self._probation[candidate] = None
            if len(self.sizes) > self._entries:
                gone.append(self._contest(candidate))
        while self.bytes > self._max_bytes and self.sizes:
            gone.append(self._oldest())
            self.remove(gone[-1])
        return gone

    def remove(self, key: bytes) -> None:
        """Hold a key no longer."""
        size = self.sizes.pop(key, None)
        if size is None:
            return
        self.bytes -= size
        for group in (self._window, self._probation, self._protected):
            if key in group:
                del group[key]
                return

    def _contest(self, candidate: bytes) -> bytes:
        victim = next(iter(self._probation))
        if victim == candidate and self._protected:
            victim = next(iter(self._protected))
        loser = victim if self._estimate(candidate) > self._estimate(victim) else candidate
        self.remove(loser)
        return loser

    def _oldest(self) -> bytes:
        return next(iter(self._probation or self._protected or self._window))

    def _estimate(self, key: bytes) -> int:
        digest = hash(key)
        one, two = self._rows
        return min(one[digest & self._mask], two[(digest >> 32) & self._mask])
