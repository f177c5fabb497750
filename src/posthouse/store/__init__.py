# SPDX-License-Identifier: Apache-2.0
"""What is kept and what must hold: the rules of mail, written once in SQL that both databases run."""
