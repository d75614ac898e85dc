# SPDX-License-Identifier: Apache-2.0
"""MC2's combine with the argument that torch_npu 2.10 adds."""

import pytest
import torch_npu


def test_a_quantised_exchange_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="quantised, mode 2"):
        torch_npu.npu_moe_distribute_combine(comm_quant_mode=2)
