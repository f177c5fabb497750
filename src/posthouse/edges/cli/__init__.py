# SPDX-License-Identifier: Apache-2.0
"""The command line: words to requests of the admin API, answers to tables (or JSON for scripts)."""
