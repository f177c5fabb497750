# SPDX-License-Identifier: Apache-2.0
"""IMAP4rev2 and IMAP4rev1 (RFC 9051, RFC 3501) and their extensions: server and client engines."""
