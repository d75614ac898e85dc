# SPDX-License-Identifier: Apache-2.0
"""Reduces a deployment to the fewest departures from the default that still show what it shows."""

from __future__ import annotations

from collections.abc import Callable

from survey import space
from survey.space import Settings, Space


def reduce(of: Space, settings: Settings, shows: Callable[[Settings], bool]) -> Settings:
    """The settings with departures taken back, in halves first and one by one at last (delta debugging).

    No single departure of the result can be taken back, as far as the exclusions let it be tried.

    Args:
        of: the deployments that may be tried.
        settings: which show it.
        shows: whether other settings, which no exclusion forbids, show it too.
    """
    left = list(space.departures(settings))
    parts = 2
    while left:
        size = max(1, len(left) // parts)
        for begin in range(0, len(left), size):
            fewer = left[:begin] + left[begin + size :]
            tried = {**space.DEFAULT, **{name: settings[name] for name in fewer}}
            if of.admits(tried) and shows(tried):
                left, parts = fewer, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(left), parts * 2)
    return {**space.DEFAULT, **{name: settings[name] for name in left}}
