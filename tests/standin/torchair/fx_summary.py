# SPDX-License-Identifier: Apache-2.0
"""A summary of a traced graph; a file of its own, because vllm-ascend loads it anew."""
