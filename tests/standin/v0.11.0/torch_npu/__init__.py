# SPDX-License-Identifier: Apache-2.0
"""The stand-in for torch_npu as 0.11.0 needs it: the shared one, whose attention takes rows without a block table.

There a drafter's rows may be more than its requests; they have no length and no row of the block table.
PYTHONPATH names the folder above; the shared stand-in's folder follows at its end, for torchair and acl.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

_shared = Path(__file__).resolve().parents[2]
sys.path.append(str(_shared))
__path__.append(str(_shared / "torch_npu"))
_source = _shared / "torch_npu" / "__init__.py"
exec(compile(_source.read_bytes(), str(_source), "exec"))  # noqa: S102 - the shared stand-in, in this package's name

import torch

from torch_npu.ops import fused_attention

_attend = fused_attention.npu_fused_infer_attention_score.__wrapped__  # type: ignore[attr-defined]
_into = fused_attention.npu_fused_infer_attention_score.out  # type: ignore[attr-defined]


@fused_attention.fused
@functools.wraps(_attend)
def npu_fused_infer_attention_score(query, key, value, *, block_table=None, **more):  # type: ignore[no-untyped-def]
    if block_table is not None:
        block_table = torch.nn.functional.pad(block_table, (0, 0, 0, len(query)))
    return _attend(query, key, value, block_table=block_table, **more)


npu_fused_infer_attention_score.out = _into
fused_attention.npu_fused_infer_attention_score = npu_fused_infer_attention_score
torch.ops.npu.npu_fused_infer_attention_score = npu_fused_infer_attention_score
