# SPDX-License-Identifier: Apache-2.0
"""IMAP sessions: one file per group of commands; `session.py` joins them."""
