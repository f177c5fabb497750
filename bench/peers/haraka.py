# SPDX-License-Identifier: Apache-2.0
"""Haraka, whose queue/lmtp plugin hands letters over to Debian's Dovecot; Haraka itself keeps no mailboxes."""

from __future__ import annotations

import json
import re

from bench.cells import NotPossibleError
from bench.peers.base import DOMAIN, FETCHED, REMEDY, MaildirPeer, certificate
from bench.peers.dovecot import launch_dovecot

PACKAGE = FETCHED / "haraka" / "node_modules" / "Haraka"
# More at once overran Dovecot's LMTP socket: connections refused, letters retried a minute later.
OUTBOUND_CONCURRENCY = 10
# No reverse look-ups, as for all peers: there need be no name server where this runs.
NO_LOOKUP = "exports.hook_lookup_rdns = (next) => next(OK, 'localhost')\n"


class Haraka(MaildirPeer):
    name = "Haraka + Dovecot"
    programs = ("node", "dovecot")

    def launch(self) -> None:
        if not PACKAGE.exists():
            raise NotPossibleError(f"Haraka is not installed in {PACKAGE.parents[1]}: {REMEDY}")
        self.make_boxes("mail")
        launch_dovecot(self)
        config = self.folder / "haraka" / "config"
        config.mkdir(parents=True)
        (self.folder / "haraka" / "queue").mkdir()
        (self.folder / "haraka" / "plugins").mkdir()
        (self.folder / "haraka" / "plugins" / "no_lookup.js").write_text(NO_LOOKUP)
        its_connections = (PACKAGE / "config" / "connection.ini").read_text()  # it cannot do with a part of it
        files = {
            "smtp.ini": f"listen=127.0.0.1:{self.smtp_port}\n",
            "connection.ini": re.sub(r"(?m)^;?bytes=.*$", "bytes=104857600", its_connections),
            "plugins": "no_lookup\nrcpt_to.in_host_list\nqueue/lmtp\n",
            "host_list": f"{DOMAIN}\n",
            "lmtp.ini": f"path={self.folder}/lmtp\n",
            "outbound.ini": f"concurrency_max={OUTBOUND_CONCURRENCY}\n",
            "me": f"mail.{DOMAIN}\n",
            "log.ini": "[main]\nlevel=warn\n",
        }
        if self.setup.offers_tls:
            chain, key = certificate(self.folder)
            files["plugins"] = "tls\n" + files["plugins"]
            files["tls.ini"] = f"key={key}\ncert={chain}\n"
        for name, text in files.items():
            (config / name).write_text(text)
        self.run(["node", PACKAGE / "bin" / "haraka", "-c", config.parent], name="haraka")
        self.await_ports(self.smtp_port, self.pop3_port)

    def version(self) -> str:
        return "Haraka " + str(json.loads((PACKAGE / "package.json").read_text())["version"])
