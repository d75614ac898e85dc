# SPDX-License-Identifier: Apache-2.0
"""How this repository holds its sets against upstream at length: schedules, surveys, benchmarks, other suites."""
