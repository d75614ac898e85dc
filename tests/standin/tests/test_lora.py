# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters, row by row."""

import torch
import torch_npu  # noqa: F401

ADAPTERS, ROWS, WIDE, RANK = 3, 5, 16, 4


def test_rows_go_to_their_adapters() -> None:
    torch.manual_seed(0)
    x, down, up = torch.randn(ROWS, WIDE), torch.randn(ADAPTERS, 1, RANK, WIDE), torch.randn(ADAPTERS, 1, WIDE, RANK)
    indices, lengths = torch.tensor([2, -1, 0]), torch.tensor([2, 1, 1])
    by_row = torch.tensor([2, 2, -1, 0, -1])
    want = torch.ones(ROWS, 2 * WIDE)
    for row, index in enumerate(by_row.tolist()):
        if index >= 0:
            want[row, WIDE:] += up[index, 0] @ (2 * down[index, 0] @ x[row])
    for of, shrink, expand in (
        ((by_row,), torch.ops._C_ascend.bgmv_shrink, torch.ops._C_ascend.bgmv_expand),
        ((indices, lengths), torch.ops._C_ascend.sgmv_shrink, torch.ops._C_ascend.sgmv_expand),
    ):
        narrow, out = torch.zeros(ROWS, RANK), torch.ones(ROWS, 2 * WIDE)
        shrink(x, down, *of, narrow, 2.0)
        expand(narrow, up, *of, out, WIDE, WIDE)
        torch.testing.assert_close(out, want)
