# SPDX-License-Identifier: Apache-2.0
"""Run statements and transactions; know no rule of mail."""
