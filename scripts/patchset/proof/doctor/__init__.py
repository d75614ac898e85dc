# SPDX-License-Identifier: Apache-2.0
"""What this machine has and lacks for the set's commands, and what to do about each."""
