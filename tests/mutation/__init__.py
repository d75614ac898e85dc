# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: mutmut changes the wheel writer in small ways, and the tests must notice."""
