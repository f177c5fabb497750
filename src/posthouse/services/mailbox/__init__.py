# SPDX-License-Identifier: Apache-2.0
"""What a reader of mail sees of a mailbox: the view that each session has been told, searches, order, threads."""
