# SPDX-License-Identifier: Apache-2.0
"""Quantised products come within rounding of the products they stand for."""

import pytest
import torch
import torch_npu
from torch.nn.functional import rms_norm, silu


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_dynamic_quant_keeps_values_within_half_a_step() -> None:
    x = torch.randn(5, 32)
    quantised, scale = torch_npu.npu_dynamic_quant(x)
    assert quantised.dtype == torch.int8
    assert quantised.abs().amax(-1).tolist() == [127] * 5
    assert ((quantised * scale.unsqueeze(-1) - x).abs() <= 0.5001 * scale.unsqueeze(-1)).all()


@pytest.mark.parametrize(("divide", "want"), [(True, [3, 127]), (False, [2, 51])])
def test_static_quant(divide: bool, want: list[int]) -> None:
    x = torch.tensor([[1.0, 100.0]])
    assert torch_npu.npu_quantize(x, torch.tensor([0.5]), torch.tensor([1]), torch.qint8, -1, divide).tolist() == [want]


@pytest.mark.parametrize("packed", [False, True])
def test_matmul(packed: bool) -> None:
    x, weight = torch.randn(4, 16), torch.randn(16, 8)
    (qx, x_scale), (qw, w_scale) = torch_npu.npu_dynamic_quant(x), torch_npu.npu_dynamic_quant(weight.T)
    if packed:
        w_scale = w_scale.view(torch.int32).to(torch.int64)
    out = torch_npu.npu_quant_matmul(qx, qw.T, w_scale, pertoken_scale=x_scale, output_dtype=torch.float32)
    torch.testing.assert_close(out, x @ weight, rtol=0, atol=0.15)


def test_expert_mlp() -> None:
    x, gate_up, down = torch.randn(6, 16), torch.randn(2, 16, 24), torch.randn(2, 12, 16)
    counts = torch.tensor([2, 4])
    q1, s1 = torch_npu.npu_dynamic_quant(gate_up.transpose(1, 2))
    q2, s2 = torch_npu.npu_dynamic_quant(down.transpose(1, 2))
    qx, sx = torch_npu.npu_dynamic_quant(x)
    common = {"split_item": 2, "group_list_type": 1, "group_type": 0, "group_list": counts}
    hidden = torch_npu.npu_grouped_matmul(x=[qx], weight=[q1.transpose(1, 2)], output_dtype=torch.int32, **common)[0]
    hidden, scale = torch_npu.npu_dequant_swiglu_quant(
        x=hidden, weight_scale=s1, activation_scale=sx, group_index=counts, activate_left=True, quant_mode=1
    )
    out = torch_npu.npu_grouped_matmul(
        x=[hidden], weight=[q2.transpose(1, 2)], scale=[s2], per_token_scale=[scale], output_dtype=torch.float32,
        **common,
    )[0]  # fmt: skip
    want = []
    for rows, w1, w2 in zip(x.split([2, 4]), gate_up, down, strict=True):
        gate, up = (rows @ w1).chunk(2, -1)
        want.append((silu(gate) * up) @ w2)
    want = torch.cat(want)
    assert (out - want).norm() / want.norm() < 0.03


def test_norms() -> None:
    x, y, gamma, beta = torch.randn(3, 8), torch.randn(3, 8), torch.rand(8), torch.rand(8)
    scale, offset = torch.tensor([0.05]), torch.tensor([3.0])
    out = torch_npu._npu_quant_rms_norm(x, gamma, beta, scale, offset, 1e-6)
    torch.testing.assert_close((out - offset) * scale, rms_norm(x, (8,), gamma, 1e-6) + beta, rtol=0, atol=0.026)
    out, _, total = torch_npu.npu_add_rms_norm_quant(x, y, gamma, scale, offset, epsilon=1e-6)
    torch.testing.assert_close((out - offset) * scale, rms_norm(x + y, (8,), gamma, 1e-6), rtol=0, atol=0.026)
    assert torch.equal(total, x + y)
