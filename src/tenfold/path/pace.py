"""What a worker decides about its turns: when the next is worth taking, and how much to claim."""

from __future__ import annotations

__all__ = ["decide_ahead", "decide_linger_s", "decide_pause_s"]

_LINGER_S = 0.02
_LONGEST_LINGER_S = 0.1
_MOMENT_S = 0.1


def decide_pause_s(
    *,
    busy: bool,
    ended: bool,
    reports: bool,
    hungry: bool,
    full: bool,
    turn_s: float,
    since_s: float,
) -> float | None:
    """How long to wait before the next turn; None where there is no reason for one.

    A worker that would stand still takes it at once, and so does one that is
    given as much as it asks for: it claims again before it has worked what it
    has. Otherwise turns take half of the time at most, since each costs about the
    same, however little it carries.

    Args:
        busy: entries are being handled, or about to be.
        ended: entries have ended that are not recorded.
        reports: among them are some that a turn would record now.
        hungry: there may be something to claim, and room for it.
        full: the last claim was all that was asked for.
        turn_s: how long the last turn took, in seconds.
        since_s: how long ago it ended, in seconds.
    """
    if not busy:
        return 0.0 if ended or hungry else None
    if hungry:
        return 0.0 if full else max(turn_s - since_s, 0.0)
    if reports and not full:
        return max(turn_s - since_s, 0.0)
    if ended:
        return max(decide_linger_s(turn_s) - since_s, 0.0)
    return None


def decide_linger_s(turn_s: float) -> float:
    """For how long what has ended may wait for the rest of its batch, while the worker is busy.

    To record a part of a batch costs a turn of its own, so these turns take a
    tenth of the time at most, within bounds: somebody may wait for the effect.
    """
    return min(max(_LINGER_S, 10 * turn_s), _LONGEST_LINGER_S)


def decide_ahead(ahead: int, concurrency: int, batch: int, done: int, seconds: float) -> int:
    """How many entries to claim at once: what is worked in a tenth of a second.

    So a quick worker has few turns to take, and a slow one does not keep from
    others what it would only get to much later.

    Args:
        ahead: what it was so far; it is doubled at most.
        concurrency: never fewer.
        batch: never more.
        done: entries that have ended in the last `seconds`.
    """
    worked = done / max(seconds, 0.001) * _MOMENT_S
    return max(min(int(worked), ahead * 2, batch), min(concurrency, batch))
