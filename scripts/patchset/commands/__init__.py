# SPDX-License-Identifier: Apache-2.0
"""The subcommands, one module per room: what each does with its arguments, and what it prints.

A module has `add(menu)`, which declares its commands; it imports the code behind a command only when that one runs.
"""
