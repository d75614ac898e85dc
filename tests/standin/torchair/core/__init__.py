# SPDX-License-Identifier: Apache-2.0
"""The compiler's inside; of it only what vllm-ascend imports is here."""
