# SPDX-License-Identifier: Apache-2.0
"""Norms, activations, rotations and sampling, against their definitions."""

import pytest
import torch
import torch_npu
from torch.nn.functional import rms_norm, silu


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms(dtype: torch.dtype) -> None:
    x, y, gamma = torch.randn(3, 8).to(dtype), torch.randn(3, 8).to(dtype), torch.rand(8).to(dtype)
    normed, rstd = torch_npu.npu_rms_norm(x, gamma, 1e-5)
    torch.testing.assert_close(normed, rms_norm(x.float(), (8,), gamma.float(), 1e-5).to(dtype))
    torch.testing.assert_close(rstd, (x.float().square().mean(-1, keepdim=True) + 1e-5).rsqrt())
    normed, _, total = torch_npu.npu_add_rms_norm(x, y, gamma, 1e-5)
    assert torch.equal(total, x + y)
    torch.testing.assert_close(normed, rms_norm((x + y).float(), (8,), gamma.float(), 1e-5).to(dtype))


def test_activations() -> None:
    x = torch.randn(3, 8)
    torch.testing.assert_close(torch_npu.npu_swiglu(x), silu(x[:, :4]) * x[:, 4:])
    documented = x / (1 + torch.exp(-1.702 * x.abs())) * torch.exp(0.851 * (x - x.abs()))
    torch.testing.assert_close(torch_npu.npu_fast_gelu(x), documented)


@pytest.mark.parametrize("neox", [True, False])
def test_rotation_is_of_complex_pairs(neox: bool) -> None:
    tokens, heads, width = 3, 2, 8
    angles = torch.rand(10, width // 2)
    positions = torch.tensor([4, 0, 9])
    query, key = torch.randn(tokens, heads * width), torch.randn(tokens, width)

    def turned(x: torch.Tensor) -> torch.Tensor:
        x = x.view(tokens, -1, width)
        pairs = torch.stack(x.chunk(2, -1), -1) if neox else x.unflatten(-1, (-1, 2))
        turn = torch.polar(torch.ones(()), angles[positions]).unsqueeze(1)
        real = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * turn)
        return (torch.cat(real.unbind(-1), -1) if neox else real.flatten(-2)).view(tokens, -1)

    want = turned(query), turned(key)
    cache = torch.cat((angles.cos(), angles.sin()), -1)
    assert torch_npu._npu_rotary_embedding(positions, query, key, width, cache, neox) is None
    torch.testing.assert_close((query, key), want)


def test_top_k_top_p() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.1, 0.4, 0.2, 0.3]]))
    kept = torch_npu.npu_top_k_top_p(logits, torch.tensor([0.65, 1.0]), torch.tensor([4, 2])).isfinite()
    assert kept.tolist() == [[False, True, False, True], [False, True, False, True]]


def test_scatter_by_index_pairs() -> None:
    data = torch.zeros(2, 3, 4)
    torch_npu.npu_scatter_nd_update_(data, torch.tensor([[1, 2], [0, 0]]), torch.ones(2, 1, 4))
    assert data.sum(-1).tolist() == [[4, 0, 0], [0, 0, 4]]


def test_scatter_skips_what_has_no_place() -> None:
    data = torch.zeros(2, 3, 4)
    torch_npu.npu_scatter_nd_update_(data, torch.tensor([[-1, 2], [0, 0]]), torch.ones(2, 1, 4))
    assert data.sum(-1).tolist() == [[4, 0, 0], [0, 0, 0]]


def test_format_is_a_label() -> None:
    x = torch.ones(2)
    assert torch_npu.get_npu_format(x) == 2
    assert torch_npu.get_npu_format(torch_npu.npu_format_cast(x, 29)) == 29
