# SPDX-License-Identifier: Apache-2.0
"""Applies, checks and takes back a versioned patch set for vllm-ascend."""

__version__ = "0.1.0"
