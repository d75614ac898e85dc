# SPDX-License-Identifier: Apache-2.0
"""Which collectives of a rank are held against those of the others."""

from typing import Any

from survey import reading, seen

BEGIN = 10.0


def step(t: float, *, end: bool = False) -> dict[str, Any]:
    return {"kind": "step", "t": t, "what": "execute_model", "end": end}


def gather(t: float, rows: int, group: str = "dp") -> dict[str, Any]:
    about = {"op": "all_gather_into_tensor", "group": group, "device": "npu", "dtype": "float32", "shape": [rows, 8]}
    return {"kind": "collective", "t": t, **about}


def test_drafts_count_within_a_step_and_after_it() -> None:
    busy = [step(11), gather(11.1, 4), step(11.2, end=True), gather(11.3, 2), gather(11.4, 4, group="tp")]
    idle = [step(11), gather(11.1, 4), gather(11.3, 2), step(11.4, end=True)]
    shapes = [shape for *_, shape in seen.collectives(busy, BEGIN)]
    assert shapes == [(4, 8), (2, 8)]
    assert seen.collectives(idle, BEGIN) == seen.collectives(busy, BEGIN)


def test_steps_before_the_first_request_do_not_count() -> None:
    warm = [step(1), gather(1.1, 64), step(1.2, end=True), gather(1.3, 64)]
    asked = [step(11), gather(11.1, 4), step(11.2, end=True)]
    assert seen.collectives(warm + asked, BEGIN) == seen.collectives(asked, BEGIN)
    other = [step(11), gather(11.1, 6), step(11.2, end=True)]
    assert not reading.alike({0: [seen.collectives(asked, BEGIN)], 1: [seen.collectives(other, BEGIN)]})
