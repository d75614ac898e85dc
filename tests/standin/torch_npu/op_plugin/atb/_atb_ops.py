# SPDX-License-Identifier: Apache-2.0
"""Loads the operators of the Ascend Transformer Boost library."""


def _register_atb_extensions() -> None:
    """They were registered when torch_npu was imported."""
