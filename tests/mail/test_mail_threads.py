# SPDX-License-Identifier: Apache-2.0
"""Base subjects, sorting and threading of RFC 5256."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mail import threads
from posthouse.mail.base_subject import base_subject
from posthouse.mail.search import ThreadAlgorithm
from posthouse.mail.sorting import collation_key
from posthouse.mail.threads import Forest, Member, links, thread, written


@pytest.mark.parametrize(
    ("subject", "text", "is_reply"),
    [
        ("", "", False),
        ("Hello", "Hello", False),
        ("  Hello \t World ", "Hello World", False),
        ("Re: Hello", "Hello", True),
        ("RE : Hello", "Hello", True),
        ("Re[2]: Hello", "Hello", True),
        ("re [a] : Hello", "Hello", True),
        ("Fw: FWD: re: Hello", "Hello", True),
        ("Hello (fwd)", "Hello", True),
        ("Hello (fwd) (FWD)  ", "Hello", True),
        ("[list] Hello", "Hello", False),
        ("[a] [b][c] Hello", "Hello", False),
        ("[list]", "[list]", False),
        ("[a][b]", "[b]", False),
        ("[a] Re: [b] Hello", "Hello", True),
        ("[a][b] Re: Hello", "Hello", True),
        ("Re: [a][b] x", "x", True),
        ("[Fwd: Hello]", "Hello", True),
        ("[Fwd: [Fwd: Re: Hello (fwd)]]", "Hello", True),
        ("[Fwd: Hello", "[Fwd: Hello", False),
        ("[Fwd:]", "", True),
        ("Re:", "", True),
        ("(fwd)", "", True),
        ("Regarding", "Regarding", False),
        ("Re Hello", "Re Hello", False),
        ("Fwdx: Hello", "Fwdx: Hello", False),
        ("Aw: Hello", "Aw: Hello", False),
        ("Hello (x)", "Hello (x)", False),
        ("=?utf-8?q?Re=3A_Gr=C3=BC=C3=9Fe?=", "Grüße", True),
        ("Re:\r\n Hello", "Hello", True),
        ("[unclosed Re: x", "[unclosed Re: x", False),
    ],
)
def test_base_subjects(subject: str, text: str, is_reply: bool) -> None:
    """RFC 5256 §2.1: exactly this, so that clients come to the same result (no other language's "Re:")."""
    assert base_subject(subject) == base_subject(subject.encode()) == (text, is_reply)


@given(st.text(alphabet="re:fwd[]() \tä", max_size=60))
def test_a_base_subject_is_its_own(subject: str) -> None:
    text, _ = base_subject(subject)
    again, is_reply = base_subject(text)
    assert not is_reply
    assert again == text


def test_subjects_made_to_be_hard_take_no_time() -> None:
    for subject in ("[a]" * 5_000, "re:" * 5_000, "[fwd:" * 3_000 + "]" * 3_000, " (fwd)" * 3_000, "[" * 9_000):
        base_subject(subject.encode())


def test_collation_is_without_case_and_composition() -> None:
    """RFC 5051 §2."""
    assert collation_key("straße") == collation_key("STRAßE")
    assert collation_key("é") == collation_key("E\u0301") == collation_key("É")
    assert collation_key("\u01c4") == collation_key("\u01c6")
    assert collation_key("abc") < collation_key("ABD")
    assert collation_key("") < collation_key("a")


# --- threads --------------------------------------------------------------------------------------


def member(spec: str) -> Member:
    """`id<ref,ref|subject@sent`: all but the id may be missing."""
    spec, _, sent = spec.partition("@")
    spec, _, subject = spec.partition("|")
    own, _, refs = spec.partition("<")
    base = base_subject(subject)
    ids = tuple(ref.encode() for ref in refs.split(",") if ref)
    return Member(own.encode(), ids, base._replace(text=collation_key(base.text)), float(sent or 0))


def told(*specs: str, algorithm: ThreadAlgorithm = ThreadAlgorithm.REFERENCES) -> str:
    members = [member(spec) for spec in specs]
    return written(thread(members, algorithm), range(1, len(members) + 1))


@pytest.mark.parametrize(
    ("specs", "result"),
    [
        ([], ""),
        (["a", "b"], "(1)(2)"),
        (["a", "b<a", "c<a,b"], "(1 2 3)"),
        (["a", "b<a", "c<a"], "(1 (2)(3))"),
        (["c<a,b", "b<a", "a"], "(3 2 1)"),
        # Section 4: 3 and 5 are siblings of a parent that is not there.
        (["b<a", "c<a"], "((1)(2))"),
        (["b<a"], "(1)"),
        (["c<a,b", "d<a,b"], "((1)(2))"),
        (["a", "d<a,b,c", "e<a,b,c"], "(1 (2)(3))"),
        (["d<a,b", "e<a,c"], "((1)(2))"),
        # Loops are not made.
        (["a<b", "b<a"], "(2 1)"),
        (["a<a"], "(1)"),
        (["a<b", "b<c", "c<a"], "(3 2 1)"),
        # A letter's own references are better than what others seemed to say.
        (["c<a,b", "a", "b<x,a"], "(2 3 1)"),
        (["c<a,b", "a", "b"], "(2)(3 1)"),
        # Of two letters with one id the first has it.
        (["a", "a", "b<a"], "(1 3)(2)"),
        (["", "", "b<"], "(1)(2)(3)"),
        # By time, not by number; equals stay in the order of the mailbox.
        (["a@5", "b<a@9", "c<a@7", "d@1", "e@5"], "(4)(1 (3)(2))(5)"),
        # Base subjects bring threads together.
        (["a|Hello@1", "b|Re: hello@2"], "(1 2)"),
        (["a|Re: Hello@1", "b|Hello@2"], "(2 1)"),
        (["a|Hello@1", "b|Hello@2"], "((1)(2))"),
        (["a|Re: Hello@1", "b|Re: Hello@2", "c|Re: Hello@3"], "((1)(2)(3))"),
        (["b<x|Hello@1", "c<x|Hello@2", "d|Hello@3"], "((1)(2)(3))"),
        (["b<x|Hello@1", "c<x|Hello@2", "d<y|Hello@3", "e<y|Hello@4"], "((1)(2)(3)(4))"),
        (["a|@1", "b|@2"], "(1)(2)"),
        (["a|Hello@1", "b<a|Hello@2", "c|Re: Hello@3"], "(1 (2)(3))"),
        (["d|Hello@1", "b<x|Hello@2", "c<x|Hello@3"], "((1)(2)(3))"),
    ],
)
def test_references(specs: list[str], result: str) -> None:
    assert told(*specs) == result


@pytest.mark.parametrize(
    ("specs", "result"),
    [
        ([], ""),
        (["a|x@3", "b|y@1", "c|Re: X@2", "d|x@4"], "(2)(3 (1)(4))"),
        (["a|x@1", "b|re: x@2"], "(1 2)"),
        (["a|@2", "b|@1"], "(2 1)"),
    ],
)
def test_ordered_subject(specs: list[str], result: str) -> None:
    assert told(*specs, algorithm=ThreadAlgorithm.ORDERED_SUBJECT) == result


def test_the_example_of_the_standard_is_written_like_this() -> None:
    """RFC 5256 §4."""
    forest = Forest(97, [2, 3], {3: [6], 6: [4, 44], 4: [23], 44: [7], 7: [96]})
    assert written(forest, range(97)) == "(2)(3 6 (4 23)(44 7 96))"
    assert written(Forest(6, [6], {6: [3, 5]}), range(6)) == "((3)(5))"


def test_ids_compare_without_quoting() -> None:
    summary = {b"message-id": b'<"01KF8JCEOCBS0045PS"@xxx.yyy.com>', b"in-reply-to": b"<a@b> <c@d>"}
    assert links(summary, ()) == (b"01KF8JCEOCBS0045PS@xxx.yyy.com", (b"a@b",))
    assert links(summary, (b'"x"@y', b"z")) == (b"01KF8JCEOCBS0045PS@xxx.yyy.com", (b"x@y", b"z"))
    assert links({b"message-id": None, b"in-reply-to": b"your letter"}, ()) == (b"", ())


ids = st.sampled_from([b"", *(b"%d" % number for number in range(9))])
members = st.lists(
    st.builds(
        Member,
        ids,
        st.lists(ids.filter(bool), max_size=4).map(tuple),
        st.sampled_from(["", "x", "Re: x", "y"]).map(base_subject),
        st.integers(0, 5).map(float),
    ),
    max_size=12,
)


@given(members, st.sampled_from(ThreadAlgorithm), st.sampled_from([0, 3, threads.MAX_STEPS]))
def test_every_letter_is_there_once(letters: list[Member], algorithm: ThreadAlgorithm, steps: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "MAX_STEPS", steps)
        forest = thread(letters, algorithm)
    seen: list[int] = []
    waiting = list(forest.roots)
    while waiting:
        node = waiting.pop()
        seen.append(node)
        if node >= len(letters):
            assert node in forest.roots
            assert len(forest.children[node]) > 1
        waiting += forest.children.get(node, ())
    assert sorted(node for node in seen if node < len(letters)) == list(range(len(letters)))
    assert len(set(seen)) == len(seen)
