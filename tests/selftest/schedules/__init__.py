# SPDX-License-Identifier: Apache-2.0
"""The proof over schedules: what the simulator in tests/prove found about both trees, and about broken ones."""

# The sets whose runner and drafters the simulator drives: it imports upstream's modules and calls their methods.
SETS = ("v0.10.1.1",)
