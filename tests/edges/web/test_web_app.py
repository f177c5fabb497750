# SPDX-License-Identifier: Apache-2.0
"""What the web answers: for whose names, over which scheme, to which method, and to nobody else."""

from __future__ import annotations

import json
import plistlib
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest

from posthouse.edges.web.app import SIGNATURES_PER_MINUTE
from posthouse.ports import StoreFault
from posthouse.services.own_policy import own_policy
from tests.edges.web.site import HOST, Site

POLICY = "https://mta-sts.alice.test/.well-known/mta-sts.txt"
CONFIG = "https://autoconfig.alice.test/mail/config-v1.1.xml"
WELL_KNOWN_CONFIG = "https://alice.test/.well-known/autoconfig/mail/config-v1.1.xml"
DISCOVER = "https://autodiscover.alice.test/autodiscover/autodiscover.xml"
PROFILE = f"https://{HOST}/profile.mobileconfig"
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
RESPONSE = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"
ERROR = "{http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006}"


def question(address: str, schema: str = OUTLOOK) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">'
        f"<Request><EMailAddress>{address}</EMailAddress>"
        f"<AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>"
    )


# --- MTA-STS ----------------------------------------------------------------------------------------


async def test_the_policy_of_a_domain() -> None:
    answer = await Site().ask(POLICY)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=us-ascii"
    assert answer.headers["date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == (
        "version: STSv1\r\nmode: testing\r\nmx: mail.alice.test\r\nmx: *.backup.test\r\nmax_age: 86400\r\n"
    )


@pytest.mark.parametrize(
    "host", ["mta-sts.bob.test", "alice.test", HOST, "mta-sts.", "mta-sts", "mta-sts.mta-sts.alice.test", "192.0.2.1"]
)
async def test_no_policy_for_other_names(host: str) -> None:
    assert (await Site().ask(f"https://{host}/.well-known/mta-sts.txt")).status_code == 404


async def test_a_policy_that_is_off() -> None:
    site = Site(policy=own_policy(HOST, "off", 86400, []))
    assert (await site.ask(POLICY)).status_code == 404


async def test_names_with_port_case_and_final_dot_are_the_same() -> None:
    site = Site()
    for host in ("MTA-STS.Alice.TEST", "mta-sts.alice.test:443", "mta-sts.alice.test.", "mta-sts.alice.test.:8443"):
        assert (await site.ask(POLICY, headers={"host": host})).status_code == 200, host
    for host in ("", "[::1]", "mta-sts.alice.test:x", "mta-sts.alice.test@bob.test", "mta-sts.alice.test/..", "a b"):
        assert (await site.ask(POLICY, headers={"host": host})).status_code == 404, host


async def test_a_domain_with_other_letters() -> None:
    assert (await Site().ask("https://mta-sts.xn--r8jz45g.test/.well-known/mta-sts.txt")).status_code == 200
    answer = await Site().ask(f"https://{HOST}/mail/config-v1.1.xml?emailaddress=a@例え.test")
    assert "<domain>xn--r8jz45g.test</domain>" in answer.text


# --- plain HTTP -------------------------------------------------------------------------------------


async def test_plain_http_leads_to_https() -> None:
    for url in (POLICY, CONFIG, WELL_KNOWN_CONFIG, f"https://{HOST}/", f"https://{HOST}/a%20b?c=d%26e&f=/g"):
        answer = await Site().ask(url.replace("https:", "http:"))
        assert (answer.status_code, answer.headers["location"]) == (301, url)


async def test_outlook_is_led_by_302() -> None:
    answer = await Site().ask("http://autodiscover.alice.test/Autodiscover/AutoDiscover.xml")
    assert (answer.status_code, answer.headers["location"]) == (302, DISCOVER)


async def test_plain_http_leads_to_no_other_names() -> None:
    for host in ("bob.test", "evil.alice.test", "alice.test.bob.test", "alice.test@bob.test", ""):
        answer = await Site().ask("http://alice.test/", headers={"host": host})
        assert answer.status_code == 404
        assert "location" not in answer.headers


async def test_a_path_that_is_none_leads_nowhere() -> None:
    """`GET http://elsewhere/ HTTP/1.1`, as to a proxy: uvicorn gives the whole as the path."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    for path in (".evil.test/", "http://evil.test/", "*", ""):
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"alice.test")],
            "client": ("192.0.2.9", 1),
            "root_path": "",
        }
        await Site().app()(scope, receive, send)
        assert sent[-2]["status"] == 404
        assert not [value for name, value in sent[-2]["headers"] if name == b"location"]


async def test_line_ends_in_a_path_stay_in_the_path() -> None:
    answer = await Site().ask("http://alice.test/%0d%0aset-cookie:%20a=b?x=%0d%0a")
    assert answer.headers["location"] == "https://alice.test/%0D%0Aset-cookie%3A%20a%3Db?x=%0d%0a"


async def test_without_https_there_is_no_way() -> None:
    site = Site(listen={"imaps": ["*:993"], "submissions": ["*:465"]})
    assert (await site.ask("http://alice.test/")).status_code == 404


async def test_another_port_is_said() -> None:
    site = Site(listen={"https": ["*:8443"]})
    assert (await site.ask("http://alice.test/x")).headers["location"] == "https://alice.test:8443/x"


async def test_what_is_posted_in_the_clear_is_not_sent_on() -> None:
    answer = await Site().ask(DISCOVER.replace("https", "http"), "POST", content=question("a@alice.test"))
    assert answer.status_code == 403


async def test_challenges_are_answered_on_both() -> None:
    site = Site(challenges={"good-token_1": "good-token_1.thumb", "a b": "never"})
    for scheme in ("http", "https"):
        url = f"{scheme}://whatever.example/.well-known/acme-challenge/"
        answer = await site.ask(url + "good-token_1")
        assert (answer.status_code, answer.text) == (200, "good-token_1.thumb")
        assert answer.headers["content-type"] == "application/octet-stream"
        for token in ("other", "a%20b", "", "a/b", "x" * 200, "..%2f"):
            assert (await site.ask(url + token)).status_code == 404


# --- behind a proxy ---------------------------------------------------------------------------------


async def test_a_proxy_on_this_machine_has_done_tls() -> None:
    url, secure = POLICY.replace("https", "http"), {"x-forwarded-proto": "https"}
    for client in (("127.0.0.1", 1), ("::1", 1), None):
        site = Site(behind_proxy=True, client=client)
        assert (await site.ask(url, headers=secure)).status_code == 200
        assert (await site.ask(url, headers={"x-forwarded-proto": "http"})).status_code == 301
        assert (await site.ask(url)).status_code == 301


async def test_nobody_else_may_say_so() -> None:
    url, secure = POLICY.replace("https", "http"), {"x-forwarded-proto": "https"}
    assert (await Site(behind_proxy=True).ask(url, headers=secure)).status_code == 301
    assert (await Site(client=("127.0.0.1", 1)).ask(url, headers=secure)).status_code == 301
    twice: Any = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")]
    assert (await Site(behind_proxy=True, client=None).ask(url, headers=twice)).status_code == 301


# --- mail programs ----------------------------------------------------------------------------------


async def test_autoconfig() -> None:
    for url in (
        CONFIG,
        WELL_KNOWN_CONFIG,
        CONFIG + "?emailaddress=whoever%40alice.test",
        f"https://{HOST}/mail/config-v1.1.xml?emailaddress=x@alice.test",
    ):
        answer = await Site().ask(url)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/xml; charset=utf-8"
        root = ElementTree.fromstring(answer.content)
        assert (root.tag, root.get("version")) == ("clientConfig", "1.1")
        provider = root.find("emailProvider")
        assert provider is not None
        assert provider.get("id") == provider.findtext("domain") == "alice.test"
        servers = [
            (
                server.tag,
                server.get("type"),
                server.findtext("hostname"),
                server.findtext("port"),
                server.findtext("socketType"),
                server.findtext("authentication"),
                server.findtext("username"),
            )
            for server in provider
            if server.tag.endswith("Server")
        ]
        rest = ("password-cleartext", "%EMAILADDRESS%")
        assert servers == [
            ("incomingServer", "imap", HOST, "993", "SSL", *rest),
            ("incomingServer", "imap", HOST, "143", "STARTTLS", *rest),
            ("incomingServer", "pop3", HOST, "995", "SSL", *rest),
            ("outgoingServer", "smtp", HOST, "465", "SSL", *rest),
            ("outgoingServer", "smtp", HOST, "587", "STARTTLS", *rest),
        ]


@pytest.mark.parametrize("query", ["?emailaddress=a@bob.test", "?emailaddress=nobody", "?emailaddress=a@[127.0.0.1]"])
async def test_autoconfig_for_nobody(query: str) -> None:
    assert (await Site().ask(CONFIG + query)).status_code == 404
    assert (await Site().ask(PROFILE + query)).status_code == 404


async def test_autodiscover() -> None:
    answer = await Site().ask(DISCOVER, "POST", content=question("Some.One+x&amp;y@Alice.test"))
    assert answer.status_code == 200
    root = ElementTree.fromstring(answer.content)
    assert root.findtext(f".//{RESPONSE}AccountType") == "email"
    assert root.findtext(f".//{RESPONSE}Action") == "settings"
    servers = [
        {each.tag.removeprefix(RESPONSE): each.text for each in protocol}
        for protocol in root.iter(f"{RESPONSE}Protocol")
    ]
    assert [(server["Type"], server["Server"], server["Port"]) for server in servers] == [
        ("IMAP", HOST, "993"),
        ("POP3", HOST, "995"),
        ("SMTP", HOST, "465"),
    ]
    for server in servers:
        assert server["LoginName"] == "Some.One+x&y@alice.test"
        assert (server["SSL"], server["Encryption"], server["SPA"]) == ("on", "SSL", "off")


async def test_autodiscover_in_any_case_and_at_every_name() -> None:
    for url in ("https://alice.test/Autodiscover/Autodiscover.xml", f"https://{HOST}/AUTODISCOVER/AUTODISCOVER.XML"):
        assert (await Site().ask(url, "POST", content=question("a@alice.test"))).status_code == 200


async def test_autodiscover_with_starttls_alone() -> None:
    site = Site(listen={"imap": ["*:143"], "submission": ["*:587"], "https": ["*:443"]})
    answer = await site.ask(DISCOVER, "POST", content=question("a@alice.test"))
    assert [each.text for each in ElementTree.fromstring(answer.content).iter(f"{RESPONSE}Encryption")] == ["TLS"] * 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (question("a@bob.test"), 404, "500"),
        (question("nobody"), 404, "500"),
        (
            question(
                "a@alice.test", "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"
            ),
            200,
            "601",
        ),
        (question(""), 200, "600"),
        ("", 200, "600"),
        ("<Autodiscover>", 200, "600"),
        ("{}", 200, "600"),
        ('<!DOCTYPE a [<!ENTITY e "x">]>' + question("a@alice.test").partition("?>")[2], 200, "600"),
    ],
)
async def test_autodiscover_says_what_is_wrong(body: str, status: int, code: str) -> None:
    answer = await Site().ask(DISCOVER, "POST", content=body)
    assert answer.status_code == status
    assert ElementTree.fromstring(answer.content).findtext(f".//{ERROR}ErrorCode") == code


async def test_autodiscover_wants_a_post_of_some_size() -> None:
    answer = await Site().ask(DISCOVER)
    assert ElementTree.fromstring(answer.content).findtext(f".//{ERROR}ErrorCode") == "600"
    assert (await Site().ask(DISCOVER, "POST", content=b" " * 20_000)).status_code == 413
    assert (await Site().ask(DISCOVER, "PUT", content=b"")).status_code == 405


async def test_autodiscover_in_json() -> None:
    base = "https://autodiscover.alice.test/autodiscover/autodiscover.json"
    for url in (
        base + "?Email=a@alice.test&Protocol=AutodiscoverV1",
        base + "/v1.0/a@alice.test?Protocol=autodiscoverv1",
        base.replace("autodiscover.json", "Autodiscover.json") + "/v1.0/a%40alice.test?Protocol=AutodiscoverV1",
    ):
        answer = await Site().ask(url)
        assert answer.status_code == 200, url
        assert json.loads(answer.content) == {
            "Protocol": "AutodiscoverV1",
            "Url": f"https://{HOST}/autodiscover/autodiscover.xml",
        }
    answer = await Site().ask(base + "?Email=a@alice.test&Protocol=ActiveSync")
    assert answer.status_code == 400
    assert json.loads(answer.content)["ErrorCode"] == "InvalidProtocol"
    assert (await Site().ask(base + "?Email=a@bob.test&Protocol=AutodiscoverV1")).status_code == 404
    assert (await Site().ask(base)).status_code == 404


async def test_profile() -> None:
    answer = await Site().ask(PROFILE + "?emailaddress=o'brien%2b%3cx%26y%3e@alice.test")
    assert answer.status_code == 404  # <> is in no address
    answer = await Site().ask(PROFILE + "?emailaddress=o'brien%26y@alice.test")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-apple-aspen-config"
    profile = plistlib.loads(answer.content)
    [account] = profile["PayloadContent"]
    assert account["EmailAddress"] == account["IncomingMailServerUsername"] == "o'brien&y@alice.test"
    assert account["OutgoingMailServerUsername"] == "o'brien&y@alice.test"
    assert (account["IncomingMailServerHostName"], account["IncomingMailServerPortNumber"]) == (HOST, 993)
    assert (account["OutgoingMailServerHostName"], account["OutgoingMailServerPortNumber"]) == (HOST, 465)
    assert account["IncomingMailServerUseSSL"] is account["OutgoingMailServerUseSSL"] is True
    assert account["EmailAccountType"] == "EmailTypeIMAP"
    assert not [key for key in account if "Password" in key and key != "OutgoingPasswordSameAsIncomingPassword"]
    again = await Site().ask(PROFILE + "?emailaddress=o'brien%26y@alice.test")
    assert again.content == answer.content
    other = plistlib.loads((await Site().ask(PROFILE + "?emailaddress=b@alice.test")).content)
    assert other["PayloadUUID"] != profile["PayloadUUID"] != account["PayloadUUID"]


async def test_signatures_for_invented_addresses_have_a_limit() -> None:
    """A stranger may ask for any local part; the answer is the same, but without a signature."""
    site = Site(signature=b"signed")
    transport = httpx2.ASGITransport(site.app(), client=site.client)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport) as client:
        answers = [
            (await client.get(PROFILE, params={"emailaddress": f"x{number}@alice.test"})).content
            for number in range(SIGNATURES_PER_MINUTE + 5)
        ]
    assert answers[:SIGNATURES_PER_MINUTE] == [b"signed"] * SIGNATURES_PER_MINUTE
    for number, content in enumerate(answers[SIGNATURES_PER_MINUTE:], SIGNATURES_PER_MINUTE):
        assert plistlib.loads(content)["PayloadContent"][0]["EmailAddress"] == f"x{number}@alice.test"


async def test_a_signed_profile_goes_out_as_it_was_signed() -> None:
    answer = await Site(signature=b"\x30\x80signed").ask(PROFILE + "?emailaddress=a@alice.test")
    assert answer.content == b"\x30\x80signed"


async def test_a_quoted_local_part_is_escaped_everywhere() -> None:
    name = '"<b>&\'x"@alice.test'
    profile = await Site().ask(PROFILE, params={"emailaddress": name})
    assert plistlib.loads(profile.content)["PayloadContent"][0]["EmailAddress"] == name
    body = question(name.replace("&", "&amp;").replace("<", "&lt;"))
    answer = await Site().ask(DISCOVER, "POST", content=body)
    assert ElementTree.fromstring(answer.content).findtext(f".//{RESPONSE}LoginName") == name
    assert b"<b>" not in answer.content + profile.content


async def test_pop3_where_there_is_no_imap() -> None:
    site = Site(listen={"pop3s": ["*:995"], "submissions": ["*:465"], "https": ["*:443"]})
    profile = plistlib.loads((await site.ask(PROFILE + "?emailaddress=a@alice.test")).content)
    assert profile["PayloadContent"][0]["EmailAccountType"] == "EmailTypePOP"


async def test_a_server_that_nobody_can_use_offers_nothing() -> None:
    for listen in ({"https": ["*:443"]}, {"https": ["*:443"], "imaps": ["*:993"]}, {"submissions": ["*:465"]}):
        site = Site(listen=listen)
        for url in (CONFIG, PROFILE + "?emailaddress=a@alice.test"):
            assert (await site.ask(url)).status_code == 404
        assert (await site.ask(DISCOVER, "POST", content=question("a@alice.test"))).status_code == 404


async def test_nothing_is_asked_but_domains() -> None:
    """No answer can depend on an account: none is looked for."""
    site = Site()
    for url in (CONFIG + "?emailaddress=a@alice.test", PROFILE + "?emailaddress=a@alice.test", POLICY):
        await site.ask(url)
    assert set(site.asked) == {"alice.test"}


# --- the rest ---------------------------------------------------------------------------------------


async def test_there_is_nothing_else() -> None:
    for path in ("/", "/v1/status", "/metrics", "/.well-known/", "/../etc/passwd", "/.well-known/mta-sts.txt/x"):
        answer = await Site().ask(f"https://mta-sts.alice.test{path}")
        assert (answer.status_code, answer.text) == (404, "there is nothing here\n")


async def test_methods() -> None:
    assert (await Site().ask(POLICY, "HEAD")).status_code == 200
    answer = await Site().ask(POLICY, "DELETE")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


async def test_requests_are_counted_by_what_they_got() -> None:
    site = Site()
    for url in (POLICY, CONFIG, "https://alice.test/", "http://alice.test/"):
        await site.ask(url)
    page = site.metrics.page().decode()
    for kind in ("mta-sts", "autoconfig", "nothing", "redirect"):
        assert f'posthouse_web_requests_total{{kind="{kind}"}} 1.0' in page


async def test_a_store_that_fails_is_told_as_such() -> None:
    class Failing(Site):
        async def _is_local(self, name: str) -> bool:
            raise StoreFault("no disk")

    for url in (POLICY, CONFIG, "http://alice.test/"):
        answer = await Failing().ask(url)
        assert (answer.status_code, answer.text) == (503, "try again later\n")


async def test_a_defect_is_answered_in_few_words() -> None:
    class Defective(Site):
        async def _is_local(self, name: str) -> bool:
            raise ZeroDivisionError

    answer = await Defective().ask(POLICY)
    assert answer.status_code == 500
    assert "Zero" not in answer.text
