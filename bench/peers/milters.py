# SPDX-License-Identifier: Apache-2.0
"""Postfix + Dovecot with the filters that check letters: Debian's opendkim (DKIM) and opendmarc (SPF and DMARC).

Their libraries find DNS in /etc/resolv.conf: they run in a mount namespace in which that file names the run's own DNS.
"""

from __future__ import annotations

import shutil

from bench import processes
from bench.peers.base import DOMAIN, printed
from bench.peers.postfix import PostfixDovecot

START_LIMIT = 15.0  # seconds
MAIL_HOST = f"mail.{DOMAIN}"

# What departs from Debian's files: no signing, the sockets, no syslog (which costs them), our own DNS, and that
# clients of this machine are checked too.
OPENDKIM = """\
Mode v
Syslog no
UserID opendkim
UMask 000
Socket local:{folder}/opendkim/socket
AuthservID {host}
Nameservers {names}
InternalHosts {folder}/opendkim/nobody
ExternalIgnoreList {folder}/opendkim/nobody
"""
OPENDMARC = """\
Syslog false
UserID opendmarc
UMask 000
Socket local:{folder}/opendmarc/socket
AuthservID {host}
TrustedAuthservIDs {host}
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
SPFIgnoreResults true
SPFSelfValidate true
IgnoreHosts {folder}/opendmarc/nobody
"""
# A letter that a filter could not check must not be counted as one that was.
POSTFIX = """\
smtpd_milters = unix:{folder}/opendkim/socket, unix:{folder}/opendmarc/socket
milter_default_action = tempfail
"""
NOBODY = "203.0.113.255\n"  # RFC 5737: an address that no client has


class PostfixMilters(PostfixDovecot):
    name = "Postfix + Dovecot + opendkim + opendmarc"
    programs = (*PostfixDovecot.programs, "opendkim", "opendmarc", "unshare")

    def launch(self) -> None:
        folder, names = self.folder, self.setup.names
        for part in ("opendkim", "opendmarc"):
            (folder / part).mkdir()
            (folder / part / "nobody").write_text(NOBODY)
            shutil.chown(folder / part, part)  # the user that its package has made, of the same name
        (folder / "opendkim.conf").write_text(OPENDKIM.format(folder=folder, host=MAIL_HOST, names=names))
        (folder / "opendmarc.conf").write_text(OPENDMARC.format(folder=folder, host=MAIL_HOST))
        (folder / "resolv.conf").write_text(f"nameserver {names}\n")
        self._filter("opendkim", "-f", "-x")
        self._filter("opendmarc", "-f", "-c")
        self.extra = POSTFIX.format(folder=folder)
        super().launch()

    def _filter(self, program: str, *options: str) -> None:
        start = f"mount --bind {self.folder}/resolv.conf /etc/resolv.conf\nexec {program} {' '.join(options)} "
        self.run(["unshare", "--mount", "sh", "-ec", f"{start}{self.folder}/{program}.conf"], name=program)
        socket = self.folder / program / "socket"
        processes.wait_until(socket.exists, START_LIMIT, f"{program}: {self.said()}")

    def version(self) -> str:
        filters = [printed(name, "-V").splitlines()[0].split()[-1].lstrip("v") for name in ("opendkim", "opendmarc")]
        return f"{super().version()}, opendkim {filters[0]}, opendmarc {filters[1]}"
