# SPDX-License-Identifier: Apache-2.0
"""The subcommands, in modules by what they are for: their arguments and their output. A module has `add(menu)`, which
declares its commands; it imports the code behind a command only when that one runs."""
