# SPDX-License-Identifier: Apache-2.0
"""What a rank decides about its rows, without an engine: on the pristine tree, and on the patched one."""

from collections.abc import Callable
from typing import Any

import pytest
from job import Tree

pytestmark = pytest.mark.standin

Call = Callable[..., Any]
Seen = Callable[[str], None]

_ON_EACH = pytest.mark.parametrize("tree", Tree, ids=lambda tree: tree.value)


@pytest.mark.defect("D33")
@_ON_EACH
def test_ranks_gather_equal_rows_for_sequence_parallelism_by_a_pass(call: Call, tree: Tree, seen: Seen) -> None:
    """Its experts gather the rows of all ranks as they are: they must be as many on each."""
    rows = call(tree, "row_calls.rows_in_eager_step", rows=[200, 5], by_pass=True)
    assert rows == ([200, 5] if tree is Tree.PRISTINE else [200, 200])
    seen(f"{rows[0]} rows beside {rows[1]}, which the experts gather as they are")


@_ON_EACH
def test_ranks_keep_their_rows_where_no_layer_gathers_them(call: Call, tree: Tree) -> None:
    assert call(tree, "row_calls.rows_in_eager_step", rows=[200, 5], by_pass=False) == [200, 5]
