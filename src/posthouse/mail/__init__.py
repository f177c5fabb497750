# SPDX-License-Identifier: Apache-2.0
"""Pure values of mail: addresses, envelopes, header fields, structures, reports. No I/O, no clock."""
