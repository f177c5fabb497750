# SPDX-License-Identifier: Apache-2.0
"""Thunderbird without a window, in a profile of its own. It is told what to do in its own language, through Marionette:
a message is its length, a colon, and JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .imap_server import Person
from .programs import PATIENCE, accepts, free_port, require, wait_until

START = 90.0  # seconds: a first start makes a profile, on a machine that others use too

# What every script has: the account's folders by their names, their letters by subjects, waits, and a letter's octets.
PRELUDE = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
const server = MailServices.accounts.allServers.find((each) => each.type == "imap");
const window = Services.wm.getMostRecentWindow("mail:3pane").msgWindow;
const folders = () => server.rootFolder.descendants;
const folder = (name) => folders().find((each) => each.name == name);
const letters = (name) => [...folder(name).messages];
const letter = (name, subject) => letters(name).find((each) => each.mime2DecodedSubject == subject);
const until = async (check) => {
  while (!check()) await new Promise((go) => setTimeout(go, 50));
};
const copied = () => {
  const done = Promise.withResolvers();
  const stopped = (code) => Components.isSuccessCode(code) ? done.resolve() : done.reject(`copy failed ${code}`);
  done.listener = {
    QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
    onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; }, onStopCopy: stopped,
  };
  return done;
};
const source = (name, subject) => new Promise((resolve) => {
  const uri = folder(name).getUriForMsg(letter(name, subject));
  const chunks = [];
  MailServices.messageServiceFromURI(uri).streamMessage(uri, {
    QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
    onStartRequest() {},
    onDataAvailable(request, stream, offset, count) {
      const binary = Cc["@mozilla.org/binaryinputstream;1"].createInstance(Ci.nsIBinaryInputStream);
      binary.setInputStream(stream);
      chunks.push(binary.readBytes(count));
    },
    onStopRequest() { resolve(btoa(chunks.join(""))); },
  }, null, null, false, "", false);
});
"""


class Thunderbird:
    def __init__(self, sock: socket.socket, log: Path) -> None:
        self._file = sock.makefile("rwb")
        self._log = log
        self._number = 0
        self._read()  # it says first what it is
        self._command("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {}}})
        self._command("Marionette:SetContext", {"value": "chrome"})
        self._command("WebDriver:SetTimeouts", {"script": int(PATIENCE * 1000)})

    def run(self, script: str, *args: Any) -> Any:
        """The value of an async function with this body; `args` are its arguments."""
        body = (
            "const done = arguments[arguments.length - 1], args = [...arguments].slice(0, -1);\n"
            f"(async () => {{ {PRELUDE}\n{script} }})()"
            ".then((value) => done({ value: value ?? null }), (error) => done({ error: `${error} ${error.stack}` }));"
        )
        said = self._command("WebDriver:ExecuteAsyncScript", {"script": body, "args": list(args), "newSandbox": True})
        if "error" in said["value"]:
            pytest.fail(f"Thunderbird: {said['value']['error']}\n{self._end_of_log()}")
        return said["value"]["value"]

    def quit(self) -> None:
        self._command("Marionette:Quit", {"flags": ["eAttemptQuit"]})

    def _command(self, name: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        line = json.dumps([0, self._number, name, parameters]).encode()
        self._file.write(b"%d:%b" % (len(line), line))
        self._file.flush()
        _, number, error, value = self._read()
        assert number == self._number
        if error is not None:
            pytest.fail(f"Thunderbird's {name}: {error['error']}: {error['message']}\n{self._end_of_log()}")
        return value

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            octet = self._file.read(1)
            assert octet, self._end_of_log()
            length += octet
        return json.loads(self._file.read(int(length[:-1])))

    def _end_of_log(self) -> str:
        """The dialogue on the wire."""
        return self._log.read_text("utf-8", "replace")[-6000:] if self._log.exists() else ""


@contextlib.contextmanager
def open_thunderbird(person: Person, folder: Path, *, tls: str = "implicit") -> Iterator[Thunderbird]:
    """With one account, whose certificate it was told to trust, and whose password it knows."""
    require("thunderbird")
    profile, log, marionette = folder / "profile", folder / "imap.log", free_port()
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in _preferences(person, tls, marionette).items()
        )
    )
    with (folder / "output").open("ab") as output:
        process = subprocess.Popen(
            ["thunderbird", "--headless", "--marionette", "--remote-allow-system-access", "--profile", profile],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(folder), "MOZ_LOG": "IMAP:4,timestamp,sync", "MOZ_LOG_FILE": str(log)},
            start_new_session=True,
        )
    try:
        wait_until(lambda: accepts(marionette), "Thunderbird to start", START, folder / "output")
        with socket.create_connection(("127.0.0.1", marionette), START + PATIENCE) as sock:
            thunderbird = Thunderbird(sock, next(iter(folder.glob("imap.log*")), log))
            certificate = ssl.PEM_cert_to_DER_cert(person.server.certificate.read_text())
            origin = "imap://localhost"
            thunderbird.run(_TRUST, b64encode(certificate).decode(), origin, person.login, person.password)
            yield thunderbird
            thunderbird.quit()
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


_TRUST = """
const [certificate, origin, login, password] = args;
const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
const overrides = Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService);
overrides.rememberValidityOverride("localhost", server.port, {}, database.constructX509FromBase64(certificate), true);
const info = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
info.init(origin, null, origin, login, password, "", "");
if (!(await Services.logins.searchLoginsAsync({ origin })).length) await Services.logins.addLoginAsync(info);
"""


def _preferences(person: Person, tls: str, marionette: int) -> dict[str, Any]:
    return {
        "marionette.port": marionette,
        "mail.accountmanager.accounts": "account1",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.account.account1.server": "server1",
        "mail.account.account1.identities": "id1",
        "mail.account.lastKey": 1,
        "mail.identity.id1.useremail": person.login,
        "mail.identity.id1.fullName": "Bob",
        "mail.server.server1.type": "imap",
        "mail.server.server1.name": "there",
        "mail.server.server1.hostname": "localhost",
        "mail.server.server1.port": person.port(tls),
        "mail.server.server1.userName": person.login,
        "mail.server.server1.socketType": 3 if tls == "implicit" else 2,
        "mail.server.server1.authMethod": 3,
        "mail.server.server1.login_at_startup": False,
        "mail.server.server1.check_new_mail": False,
        # It asks nobody else, and shows nothing that waits for a click.
        "app.update.enabled": False,
        "app.donation.eoy.version.viewed": 999,
        "datareporting.policy.dataSubmissionEnabled": False,
        "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
        "mail.provider.enabled": False,
        "mail.shell.checkDefaultClient": False,
        "mail.spotlight.firstRunDone": True,
        "mail.winsearch.firstRunDone": True,
        "mailnews.start_page.enabled": False,
        "mailnews.start_page_override.mstone": "ignore",
        "network.proxy.type": 0,
        "toolkit.telemetry.enabled": False,
    }
