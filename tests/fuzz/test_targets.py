# SPDX-License-Identifier: Apache-2.0
"""A minute of fuzzing in every run of the tests: the whole corpus, and a fixed number of seeded mutations of it.

`python -m fuzz all` looks longer, and with coverage. A find becomes a file of the corpus and a test in test_found.py.
"""

from __future__ import annotations

from random import Random

import pytest

from fuzz import plain, registry, rules

MUTATIONS = 400  # of each target but those below
# Targets whose inputs are conversations, or that open files, take milliseconds each.
FEWER = {"smtp_both": 80, "control_api": 40, "dkim_body": 200, "sasl_both": 120, "foreign": 120, "smtp_server": 200}
SEED = 20261123
PUMPED = 1500  # octets of the shorter of two growing inputs
FAMILIES = 2  # of growing inputs for each target; `python -m fuzz growth` tries more
LARGE = 30_000  # octets of the input whose memory is measured
# The house behind the control socket has threads, and its work is not counted in lines.
NOT_COUNTED = {"control_api"}

NAMES = registry.names()
COUNTED = [name for name in NAMES if name not in NOT_COUNTED]


def _told(faults: list[rules.Fault]) -> str:
    return "\n".join(f"{fault.place}: {fault.what}: {fault.data[:200]!r}" for fault in faults)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_kept_input_and_no_mutation_breaks_a_rule(name: str) -> None:
    target = registry.load(name)
    faults = plain.replay(target)
    tried, more = plain.run(target, seed=SEED, goes_on=plain.for_runs(FEWER.get(name, MUTATIONS)))
    assert tried > 0
    assert not faults + more, _told(faults + more)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_four_times_the_input_runs_about_four_times_the_lines(name: str) -> None:
    target = registry.load(name)
    chance = Random(f"{SEED} {name}")
    for _ in range(FAMILIES):
        family = rules.pumped(chance.choice(target.seeds()), chance, PUMPED)
        said = rules.grows_too_fast(target, family)
        assert not said, f"{said}: {family(1)[:200]!r}"


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_an_input_takes_memory_in_proportion(name: str) -> None:
    target = registry.load(name)
    chance = Random(f"{SEED} {name}")
    data = rules.pumped(chance.choice(target.seeds()), chance, LARGE)(1)
    assert rules.memory(target, data) <= rules.memory_limit(data)


@pytest.mark.parametrize("name", NAMES)
def test_every_target_has_a_corpus_and_a_dictionary(name: str) -> None:
    """A search that begins with nothing finds nothing."""
    target = registry.load(name)
    assert target.seeds() != [b""]
    assert target.words()


def test_the_corpus_is_small() -> None:
    """It is part of every checkout."""
    octets = sum(path.stat().st_size for path in registry.CORPUS.rglob("*") if path.is_file())
    assert octets < 1 << 20
