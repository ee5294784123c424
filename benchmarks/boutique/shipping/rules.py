"""What shipping costs, and how parcels are numbered: the same on every side."""

from __future__ import annotations

from zlib import crc32

__all__ = ["cost_cents", "tracking"]


def cost_cents(pieces: int) -> int:
    """Cents of a dollar for so many pieces."""
    return 499 + 150 * pieces if pieces else 0


def tracking(street: str, city: str, state: str, pieces: int) -> str:
    """A parcel's number, from where it goes and how much is in it."""
    place = f"{street}, {city}, {state}"
    return f"{city[:2].upper()}-{len(place)}{crc32(place.encode()):08x}-{pieces}"
