# SPDX-License-Identifier: Apache-2.0
"""upstream_tests: which of upstream's tests count as regressions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchset.proof.testrun import Result
from selftest.upstream import compare

RESULTS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(Result))


@pytest.mark.parametrize(
    ("before", "after", "group"),
    [
        (Result.PASSED, Result.PASSED, "both_pass"),
        (Result.FAILED, Result.FAILED, "both_fail"),
        (Result.PASSED, Result.FAILED, "regressions"),
        (Result.PASSED, Result.SKIPPED, "regressions"),
        (Result.FAILED, Result.PASSED, "fixed"),
        (Result.SKIPPED, Result.FAILED, "both_fail"),
    ],
)
def test_groups(before: Result, after: Result, group: str) -> None:
    assert getattr(compare("v1", {"t": before}, {"t": after}), group) == ("t",)


def test_a_test_that_vanished_is_a_regression() -> None:
    assert compare("v1", {"t": Result.PASSED}, {}).regressions == ("t",)


def test_skipped_on_both_is_in_no_group() -> None:
    found = compare("v1", {"t": Result.SKIPPED}, {"t": Result.SKIPPED})
    assert not (found.both_pass or found.both_fail or found.regressions or found.fixed)


def test_nothing_ran_is_not_ok() -> None:
    assert not compare("v1", {}, {}).ok


@given(RESULTS, RESULTS)
def test_regressions_are_exactly_what_only_pristine_passes(before: dict[str, Result], after: dict[str, Result]) -> None:
    found = compare("v1", before, after)
    passed = {test for test, result in before.items() if result is Result.PASSED}
    kept = {test for test in passed if after.get(test) is Result.PASSED}
    assert set(found.regressions) == passed - kept
    assert found.ok == (bool(passed) and passed == kept)
