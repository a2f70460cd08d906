"""All cases, in one list."""

from __future__ import annotations

from tests.hostile import (
    archives,
    bombs,
    code,
    good,
    headers,
    holes,
    inflating,
    laughs,
    machine,
    pieces,
    shares,
    streams,
    views,
)

ROOMS = (
    good,
    code,
    views,
    machine,
    archives,
    streams,
    headers,
    bombs,
    laughs,
    inflating,
    holes,
    pieces,
    shares,
)

CASES = [case for room in ROOMS for case in room.cases()]
