# SPDX-License-Identifier: Apache-2.0
"""Settings: the written file reads back, mistakes are all named with file, key and remedy."""

import tomllib

import pytest

from posthouse import config, config_file, config_values
from posthouse.composing.ground import real_machine
from posthouse.composing.outgoing import static_routes
from posthouse.net.resolver import DnsResolver
from posthouse.serving import needing_restart


def read(text: str) -> config.Settings:
    return config.from_table(tomllib.loads(text), "posthouse.toml")


def test_the_written_file_is_the_defaults() -> None:
    """Comments in the file must not say other values than the code uses."""
    text = config_file.render({"hostname": "mail.example.test"})
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and line[2:3].islower() else line
        for line in text.splitlines()
    )
    assert read(text) == read(uncommented) == config.Settings(hostname="mail.example.test")


def test_values_given_are_written_out() -> None:
    given = {
        "hostname": "mail.example.test",
        "listen": {"smtp": ["127.0.0.1:2525"]},
        "queue": {"retry": ["1s"]},
        "routes": {"bob.test": "127.0.0.1:2626"},
    }
    settings = read(config_file.render(given))
    assert settings.listen.smtp == ["127.0.0.1:2525"]
    assert settings.queue.retry == [1.0]
    assert settings.routes["bob.test"].host == "127.0.0.1:2626"


def test_every_mistake_is_reported_at_once_with_its_key() -> None:
    with pytest.raises(config.ConfigError) as caught:
        read('hostname = "a b"\n[listen]\nsmtp = ["nowhere"]\n[queue]\nretry = ["5"]\nspeed = 3\n')
    problems = caught.value.problems
    assert [problem.split(": ")[1] for problem in problems] == [
        "hostname",
        "listen.smtp.0",
        "queue.retry.0",
        "queue.speed",
    ]
    assert all(problem.startswith("posthouse.toml: ") for problem in problems)
    assert "no such setting" in problems[3]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("1m", 60), ("4h", 14400), ("5d", 432000), ("200ms", 0.2), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert config_values.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-1m", "1 m", "1y", 5])
def test_bad_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        config_values.parse_duration(text)


@pytest.mark.parametrize(("text", "octets"), [("0", 0), ("200M", 200 << 20), ("5G", 5 << 30), (77, 77), ("1KiB", 1024)])
def test_sizes(text: object, octets: int) -> None:
    assert config_values.parse_size(text) == octets


def test_missing_file_names_the_remedy(tmp_path) -> None:
    with pytest.raises(config.ConfigError, match="posthouse init"):
        config.load(tmp_path)


def test_broken_toml_names_the_file(tmp_path) -> None:
    (tmp_path / "posthouse.toml").write_text("hostname = ")
    with pytest.raises(config.ConfigError, match="not valid TOML"):
        config.load(tmp_path)


def test_a_route_may_speak_lmtp() -> None:
    settings = read(
        'hostname = "mail.example.test"\n[routes]\n"bob.test" = { host = "127.0.0.1:24", protocol = "lmtp" }\n'
        '"*" = "127.0.0.1:2626"\n'
    )
    routes = static_routes(settings)
    assert routes["bob.test"].is_lmtp
    assert not routes["*"].is_lmtp


def test_the_time_for_a_name_server_reaches_the_resolver() -> None:
    """A setting that nobody reads is a lie to the one who set it."""
    settings = read('hostname = "mail.example.test"\n[resolver]\nservers = ["192.0.2.53"]\ntimeout = "20s"\n')
    resolver = real_machine().resolver(settings)
    assert isinstance(resolver, DnsResolver)
    engine = resolver._get_engine()
    assert engine.timeout == 20.0
    assert engine.lifetime >= 20.0


def test_history_is_kept_as_long_as_rewritten_senders_are_found_by_it() -> None:
    table = {"hostname": "mail.example.test", "queue": {"history": "20d"}}
    with pytest.raises(config.ConfigError) as caught:
        config.from_table(table, "x.toml")
    (problem,) = caught.value.problems
    assert problem.startswith("x.toml: queue.history: write 21d or more, or switch forwarding.srs off")
    assert config.from_table({**table, "forwarding": {"srs": False}}, "x.toml").queue.history == 20 * 86400
    assert config.from_table({**table, "queue": {"history": "21d"}}, "x.toml").queue.history == 21 * 86400


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ('[routes]\n"bob.test" = "127.0.0.1:2626"\n[queue]\nretry = ["1s"]\n[transport]\ndane = false\n', []),
        ('[queue]\nconnections = 7\nhistory = "100d"\n', ["queue.connections", "queue.history"]),
        ("[transport]\nprivate_web = true\nrequiretls = false\n", ["transport.private_web", "transport.requiretls"]),
        ("[smtp]\nmax_recipients = 200\n", ["smtp.max_recipients"]),
    ],
)
def test_a_reload_names_what_it_does_not_take_over(text: str, names: list[str]) -> None:
    assert (
        needing_restart(read('hostname = "mail.example.test"\n'), read(f'hostname = "mail.example.test"\n{text}'))
        == names
    )
