# SPDX-License-Identifier: Apache-2.0
"""The web of a whole server over real sockets and TLS: it says what the settings say, and changes with them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2

from posthouse.net.tls import CertificateFiles, CertificateStore, LoopTlsUpgrader
from posthouse.running import web_servers
from tests.system.post import HOSTNAME, Post, settings

ON_BOTH_LOOPS = True
LISTEN = {"imaps": ["*:993"], "submissions": ["*:465"], "https": ["*:443"]}


@asynccontextmanager
async def web_of(post: Post) -> AsyncIterator[Callable[..., Any]]:
    folder, clock = post.house.folder, post.house.machine.clock
    tls = LoopTlsUpgrader(CertificateStore([CertificateFiles(folder / "tls.pem", folder / "tls.key")], clock))
    sockets = {name: [socket.create_server(("127.0.0.1", 0))] for name in ("http", "https")}
    servers = web_servers(post.house, sockets, tls, None)
    ports = {name: found[0].getsockname()[1] for name, found in sockets.items()}
    trusting = ssl.create_default_context(cafile=str(folder / "tls.pem"))
    async with httpx2.AsyncClient(verify=trusting, trust_env=False) as client, AsyncExitStack() as stack:
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)

        async def ask(scheme: str, host: str, path: str, method: str = "GET", **more: Any) -> httpx2.Response:
            url = f"{scheme}://127.0.0.1:{ports[scheme]}{path}"
            named = {"sni_hostname": HOSTNAME}
            return await client.request(method, url, headers={"host": host}, extensions=named, **more)

        yield ask


async def test_domains_of_the_store_and_their_other_names(opener: Callable[..., Any]) -> None:
    post = await opener(listen=LISTEN)
    async with web_of(post) as ask:
        for domain in ("bob.test", "twin.test", HOSTNAME):
            answer = await ask("https", f"mta-sts.{domain}", "/.well-known/mta-sts.txt")
            assert answer.text == f"version: STSv1\r\nmode: testing\r\nmx: {HOSTNAME}\r\nmax_age: 1209600\r\n"
        assert (await ask("https", "mta-sts.new.test", "/.well-known/mta-sts.txt")).status_code == 404
        await post.house.administration.add_domain("new.test")
        assert (await ask("https", "mta-sts.new.test", "/.well-known/mta-sts.txt")).status_code == 200
        answer = await ask("http", "autoconfig.bob.test", "/mail/config-v1.1.xml")
        assert answer.headers["location"] == "https://autoconfig.bob.test/mail/config-v1.1.xml"


async def test_whether_an_account_exists_is_not_told(opener: Callable[..., Any]) -> None:
    post = await opener(listen=LISTEN)
    async with web_of(post) as ask:
        answers = []
        for name in ("bob", "nobody", "gone"):
            config = await ask("https", "bob.test", f"/mail/config-v1.1.xml?emailaddress={name}@bob.test")
            body = f"<A><EMailAddress>{name}@bob.test</EMailAddress></A>"
            found = await ask("https", "bob.test", "/autodiscover/autodiscover.xml", "POST", content=body)
            profile = await ask("https", "bob.test", f"/profile.mobileconfig?emailaddress={name}@bob.test")
            assert profile.status_code == 200
            answers.append((config.content, found.content.replace(f"{name}@".encode(), b"")))
        assert answers[0] == answers[1] == answers[2]


async def test_a_reload_changes_the_policy(opener: Callable[..., Any]) -> None:
    post = await opener(listen=LISTEN)
    async with web_of(post) as ask:
        post.server.reload(settings(listen=LISTEN, mta_sts={"mode": "enforce", "mx": ["*.backup.test"]}))
        answer = await ask("https", "mta-sts.bob.test", "/.well-known/mta-sts.txt")
        assert "mode: enforce\r\n" in answer.text
        assert "mx: *.backup.test\r\n" in answer.text
        post.server.reload(settings(listen=LISTEN, mta_sts={"mode": "off"}))
        assert (await ask("https", "mta-sts.bob.test", "/.well-known/mta-sts.txt")).status_code == 404
