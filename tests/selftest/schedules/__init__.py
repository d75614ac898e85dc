# SPDX-License-Identifier: Apache-2.0
"""The proof over schedules: what the simulator in tests/prove found about both trees, and about broken ones."""

# The sets whose runner and drafters the simulator drives: it imports upstream's modules and calls their methods. For
# each the defects of its pristine tree that the checker of schedules must find by itself; otherwise it cannot fail.
MUST_FIND = {
    "v0.10.0": ("D3", "D16", "D18"),
    "v0.10.1.1": ("D1", "D3", "D4"),
    "v0.10.2": ("D3", "D4", "D16"),
    "v0.11.0": ("D5", "D16", "D21"),
    "v0.18.0": ("D7", "D23", "D24", "D26", "D34", "D41", "D42"),
    "v0.23.0": ("D7", "D23", "D24", "D26", "D29", "D34", "D41", "D42"),
}
SETS = tuple(MUST_FIND)
