# SPDX-License-Identifier: Apache-2.0
"""Releases until 0.11.0: the runner, that of TorchAir, and drafters of three kinds, each with a way of its own."""
