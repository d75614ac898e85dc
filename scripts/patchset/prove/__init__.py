# SPDX-License-Identifier: Apache-2.0
"""The proof over schedules: what the simulator in tests/prove found about both trees, and about broken ones."""
