# SPDX-License-Identifier: Apache-2.0
"""What runs in the environment of a node: the standard library, Ray and torch alone, Python 3.9 and later."""
