"""The lints: ids and what points to people are found where they stand; so are words that claim too much."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_predicate import sample

from cu_cert.cli.main import run
from cu_certificates._forbidden import forbidden_in
from cu_certificates._passages import Passage, take_apart
from cu_certificates.errors import UsageError
from cu_certificates.lint import lint_privacy, lint_wording
from cu_certificates.privacy import IdIndex, even, kind_of_id, patterns_in, require_no_ids
from cu_certificates.report import render_skeleton

EMAIL, CODE, NAME = "jane.doe@example.org", "P-2041-77", "Jane Doe"


def index(*ids: str) -> IdIndex:
    return IdIndex({name: f"ids.txt:{line}" for line, name in enumerate(ids, 1)})


def places(data: bytes | str, *ids: str, name: str = "f") -> list[str]:
    source = take_apart(data if isinstance(data, bytes) else data.encode(), name)
    assert source is not None
    return [f"{hit.place} {hit.hint}" for passage in source.passages for hit in index(*ids).hits(passage)]


def statement(**changes: Any) -> bytes:
    """A payload in which one thing was changed."""
    predicate = sample("refuted")
    for path, value in changes.items():
        node: Any = predicate
        *above, last = path.split("__")
        for key in above:
            node = node[key]
        node[last] = value
    return json.dumps({"_type": "x", "subject": [{"name": "model.pt"}], "predicate": predicate}).encode()


# --- Which ids can be looked for where --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        (EMAIL, "distinctive"), (CODE, "distinctive"), (NAME, "distinctive"), ("digit-0042", "distinctive"),
        ("123456789", "distinctive"), ("12 345 678 9", "distinctive"), ("a1b2c", "distinctive"), ("5f", "short"),
        ("7", "short"), ("0042", "short"), ("12345678", "short"), ("2026-11-20", "short"), ("x7", "short"),
        ("--", "short"), ("al", "short"), ("smith", "word"), ("Müller", "word"), ("jean-luc", "word"),
        ("held-out", "word"), ("0.1234", "short"),
    ],
)  # fmt: skip
def test_what_kind_of_id_it_is(identifier: str, kind: str) -> None:
    assert kind_of_id(identifier) == kind


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        (EMAIL, "mail <jane.doe@example.org>!"),
        (EMAIL, "JANE.DOE@EXAMPLE.ORG"),
        (EMAIL, "mailto:jane.doe@example.org?subject=x"),
        (EMAIL, "\uff4aane.doe@example.org"),  # another form of the same letter
        ("caf\u00e9-01", "the cafe\u0301-01 case"),
        (CODE, "model_P-2041-77.pt"),
        (NAME, "the file of jane doe"),
        ("123456789", "customer 123456789."),
        ("123456789", "users/123456789/x"),
    ],
)
def test_a_distinctive_id_is_found_as_a_whole_word(identifier: str, text: str) -> None:
    assert places(text, "someone-else-1", identifier) == ["line 1 the id listed at ids.txt:2"]
    assert places(json.dumps({"a": [{"b": text}]}), identifier) == ["a[0].b the id listed at ids.txt:1"]
    lines = json.dumps({"a": 1}) + "\n" + json.dumps({text: {"b": text}})
    assert places(lines, identifier) == ["line 2 (a key) the id listed at ids.txt:1"]
    # Below such a key, the path would tell.
    assert places(json.dumps({text: {"b": f"{text} "}}), identifier)[1].startswith("(a name that holds an id) ")


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        (EMAIL, "xjane.doe@example.org"),
        (EMAIL, "jane.doe@example.orgs"),
        (CODE, "P-2041-778"),
        ("123456789", "0.123456789"),
        ("123456789", "1/123456789"),
        ("123456789", "123456789.5"),
        ("123456789", "a123456789"),
        ("5e884898da28", hashlib.sha256(b"password").hexdigest()),
        ("7", "7 of 12 in group 7"),
        ("smith", "the smith chart of the report"),
    ],
)
def test_what_is_not_an_id_is_not_taken_for_one(identifier: str, text: str) -> None:
    assert places(text, identifier) == []
    assert places(json.dumps({"note": text}), identifier) == []


def test_numbers_in_json_are_no_ids() -> None:
    assert places(json.dumps({"score": 123456789, "n": 7}), "123456789", "7") == []
    assert places(json.dumps({"score": "123456789"}), "123456789") == ["score the id listed at ids.txt:1"]


def test_plain_words_and_short_ids_are_looked_for_in_names_that_people_chose() -> None:
    assert index("7", "smith", EMAIL).weak == 2
    for path, value, ids in (
        ("scope__model__name", "smith.pt", ["smith"]),
        ("scope__model__name", "model of smith, v2", ["smith"]),
        ("scope__model__name", "7.pt", ["7"]),
        ("scope__data__source", "7", ["7"]),
        ("auditor__name", "Smith", ["smith"]),
        ("unlearning__method", "smith", ["smith"]),
    ):
        found = places(statement(**{path: value}), *ids)
        assert found == [f"predicate.{path.replace('__', '.')} the id listed at ids.txt:1"], path
    # A version number is no person, and our own sentences hold all kinds of words.
    assert places(statement(scope__model__name="model-7.pt"), "7", "the", "records", "procedure") == []


def test_plain_hashes_of_ids_are_found_too() -> None:
    for make in (hashlib.sha256, hashlib.sha1, hashlib.md5):
        for spelling in (EMAIL, EMAIL.upper().lower()):
            found = places(json.dumps({"d": make(spelling.encode()).hexdigest()}), EMAIL)
            assert found == ["d a plain hash of the id listed at ids.txt:1"]
    salted = hashlib.sha256(b"salt" + EMAIL.encode()).hexdigest()
    assert places(json.dumps({"d": salted}), EMAIL) == []


@settings(deadline=None, max_examples=150)
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=5, max_size=20).filter(
        lambda name: kind_of_id(name) == "distinctive"
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
)
def test_an_id_between_blanks_is_always_found_and_agrees_with_a_slow_search(name: str, before: str, after: str) -> None:
    text = f"{before} {name} {after}"
    hits = list(index(name).hits(Passage(file="f", place="p", text=text)))
    plain, inside = even(name), even(text)
    slow = any(
        inside.startswith(plain, at)
        and not inside[max(at - 1, 0) : at].isalnum()
        and not inside[at + len(plain) : at + len(plain) + 1].isalnum()
        for at in range(len(inside))
    )
    numeric = plain.isdigit()  # then a comma or point beside it may make it part of a number
    assert slow or numeric
    assert bool(hits) or numeric


# --- What files are taken apart into ----------------------------------------------------------------------------------


def test_a_page_is_searched_in_text_attributes_comments_and_data() -> None:
    page = f"""<html><head><title>{EMAIL}</title></head>
<body><!-- {EMAIL} --><p title="{EMAIL}">a <b>{EMAIL}</b></p>
<script type="x">{EMAIL}</script><p>jane.doe<span>@example.org</span></p></body></html>"""
    found = [place.split(" the id")[0] for place in places(page, EMAIL)]
    assert found == ["line 1", "line 2 (comment)", "line 2 (p title)", "line 2", "line 3", "line 3"]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            ["<", "![", "!--", "-->", "<p ", "a='", ">", "</", "script", "{", '"', "[", "]", "&#x", ";", "x"]
        )
    )
)
def test_no_text_crashes_the_reader_and_none_hides_an_id(pieces: list[str]) -> None:
    for text in (f"<{''.join(pieces)}\n{EMAIL}", f"{{{''.join(pieces)}\n{EMAIL}", "".join(pieces)):
        found = take_apart(text.encode(), "f")
        assert found is not None
        seen = any(True for passage in found.passages for _ in index(EMAIL).hits(passage))
        assert seen == (EMAIL in text)


def test_the_signed_line_of_a_page_and_a_bundle_are_opened(tmp_path: Path) -> None:
    payload = statement(scope__model__name=f"{EMAIL}.pt")
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "k"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": "k", "sig": base64.b64encode(b"s").decode()}],
        },
    }
    data = json.dumps(bundle).encode()
    assert places(data, EMAIL) == ["predicate.scope.model.name the id listed at ids.txt:1"]
    from cu_certificates.check.carrier import join_report

    assert places(join_report(b"<html>\n<head>\n</head></html>\n", data), EMAIL) == [
        "predicate.scope.model.name the id listed at ids.txt:1"
    ]


def test_a_rendered_report_holds_no_id_unless_its_predicate_does() -> None:
    predicate = sample("refuted")
    assert places(render_skeleton(predicate), EMAIL, CODE, NAME, "smith", "7") == []
    predicate["scope"]["model"]["name"] = f"{CODE}.pt"
    assert len(places(render_skeleton(predicate), EMAIL, CODE)) >= 1


# --- Patterns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("e-mail", "ask jane.doe@example.org"),
        ("phone", "call +49 30 1234567"),
        ("phone", "(030) 123 45 67"),
        ("phone", "0301 2345678"),
        ("digits", "customer 123456789"),
        ("digits", "card 4111 1111 1111 1111"),
        ("uuid", "id 123e4567-e89b-12d3-a456-426614174000"),
        ("path", "/home/jane/data.csv"),
        ("path", "C:\\Users\\jane\\data.csv"),
        ("host", "made on node7.corp"),
        ("host", "from 10.0.0.17"),
    ],
)
def test_what_points_to_a_person_or_a_machine(kind: str, text: str) -> None:
    source = take_apart(text.encode(), "f")
    assert source is not None
    hits = patterns_in(source)
    assert kind in {hit.kind for hit in hits}
    assert all(text not in str(hit) and "jane.doe" not in str(hit) for hit in hits)


@pytest.mark.parametrize(
    "text",
    ["0.123456789", "1/1234567890", "a" * 64, "0" * 64, "2026-11-20", "2026-11-20T18:00:00Z", "eps >= 0.0000",
     "version 2.13.0", "model.pt", "https://in-toto.io/Statement/v1", "12 of 345 models", "evidence/slots.jsonl",
     "SHA256:uI0hE0ZCYYKCgVJBuB5Gq9EIepkK+gia9vRDZbGugdM", "1000.0 to 123456.7", "10 20 30 40",
     "https://cu-cert.example/predicate/unlearning-audit/v1"],
)  # fmt: skip
def test_what_points_to_nobody(text: str) -> None:
    source = take_apart(text.encode(), "f")
    assert source is not None
    assert patterns_in(source) == []


def test_what_a_certificate_says_on_purpose_is_no_finding() -> None:
    payload = json.loads(statement())
    payload["predicate"] |= {
        "controller": {"name": "Example Ltd", "contact": "privacy@example.org"},
        "affirmation": {"name": "A. Person", "role": "head, +49 30 1234567"},
        "governance": {"revocationContact": "https://example.org/report"},
        "certificateId": "urn:uuid:123e4567-e89b-12d3-a456-426614174000",
    }
    source = take_apart(json.dumps(payload).encode(), "f")
    assert source is not None
    assert patterns_in(source) == []
    page = take_apart(b"<p>privacy@example.org, 123e4567-e89b-12d3-a456-426614174000</p>", "report.html")
    assert page is not None
    assert len(patterns_in(page)) == 2
    assert patterns_in(page, predicate=payload["predicate"]) == []
    payload["predicate"]["scope"]["model"]["name"] = "of-jane@example.org.pt"
    source = take_apart(json.dumps(payload).encode(), "f")
    assert source is not None
    assert "e-mail" in {hit.kind for hit in patterns_in(source)}


def test_the_name_of_the_machine_is_found() -> None:
    source = take_apart(b"made on build-0815", "f")
    assert source is not None
    assert [hit.hint for hit in patterns_in(source, hostnames=["Build-0815"])] == ["the name of this machine"]


@settings(deadline=500, max_examples=30)
@given(st.sampled_from(["a", "1", "a.", "1 ", "a-", "@", "+", "/", "0.1 "]), st.integers(0, 200_000))
def test_no_long_line_keeps_the_lint_busy(piece: str, size: int) -> None:
    source = take_apart((piece * (size // len(piece))).encode(), "f")
    assert source is not None
    patterns_in(source)
    forbidden_in(source.passages[0].text[:20_000])


# --- The verb ---------------------------------------------------------------------------------------------------------


def folder_with(tmp_path: Path, **files: bytes) -> Path:
    folder = tmp_path / "out"
    (folder / "private").mkdir(parents=True)
    (folder / "private" / "request.json").write_text(EMAIL)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def test_the_privacy_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_with(tmp_path, certificate__draft__json=statement(), model__pt=b"\x80\x00\xff")
    ids = tmp_path / "ids.txt"
    ids.write_text(f"# who asked\n{CODE}\n{EMAIL}\n7\n")
    assert run(["lint", "privacy", str(folder), "--forget", str(ids)]) == 0
    told = capsys.readouterr().out
    assert "1 of 3 ids are plain words, short or numeric" in told
    assert "no text, only the name was looked at: model.pt" in told
    assert "not looked into: private/" in told
    assert told.splitlines()[-1] == "1 file: nothing found"
    (folder / f"{CODE}.txt").write_text(f"ask {EMAIL}")
    assert run(["lint", "privacy", str(folder), "--forget", str(ids), "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["clean"]) == ("cu-cert-lint-privacy/1", False)
    assert [(one["kind"], one["place"], one["hint"]) for one in document["findings"]] == [
        ("forget-id", "file name", "the id listed at ids.txt:2"),
        ("forget-id", "line 1", "the id listed at ids.txt:3"),
        ("e-mail", "line 1", "ja... (20 characters)"),
    ]
    assert EMAIL not in json.dumps(document["findings"])
    assert run(["lint", "privacy", str(folder)]) == 4  # without a list, the address is still one
    assert "no list of ids was given" in capsys.readouterr().out
    assert run(["lint", "privacy", str(folder), "--accept", "e-mail"]) == 0
    assert run(["lint", "privacy", str(folder), "--accept", "forget-id"]) == 2
    assert "ids are never accepted" in capsys.readouterr().err
    assert run(["lint", "privacy", str(tmp_path / "nowhere")]) == 2
    assert "is no file and no folder" in capsys.readouterr().err


def test_the_wording_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<p>The data has been <b>deleted</b> from\nthe model.</p><p title='DSGVO-konform'>x</p><style>passed</style>"
    )
    assert run(["lint", "wording", str(page)]) == 4
    told = capsys.readouterr().out
    assert "page.html: line 1: wording: 'data has been deleted'; say: the planned tests did not detect" in told
    assert "'deleted from the model'" in told
    assert "line 2 (p title): wording: 'DSGVO-konform'" in told
    assert "passed" not in told
    assert run(["lint", "wording", str(page), "--language", "fr"]) == 0
    text = tmp_path / "page.md"
    text.write_text("It\nhas\nforgotten.\n\nAudit of an unlearning operation.\n")
    capsys.readouterr()
    assert run(["lint", "wording", str(text), "--json"]) == 4
    document = json.loads(capsys.readouterr().out)
    assert [one["place"] for one in document["findings"]] == ["line 1"]
    text.write_text("Audit of an unlearning operation: NOT_REFUTED, unverified.\n")
    assert run(["lint", "wording", str(text)]) == 0
    for arguments, message in (
        ([str(tmp_path)], "folder"),
        ([str(text), "--language", "it"], "expected en, de, fr"),
        ([str(tmp_path / "none")], "does not exist"),
    ):
        capsys.readouterr()
        assert run(["lint", "wording", *arguments]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "model.pt").write_bytes(b"\xff\x00")
    with pytest.raises(UsageError, match="is no text"):
        lint_wording(tmp_path / "model.pt")


def test_links_and_too_many_files_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, a__txt=b"x", b__txt=b"y")
    (folder / "link").symlink_to(tmp_path)
    assert lint_privacy(folder).left_out == ("link", "private/")
    monkeypatch.setattr("cu_certificates._passages.MAX_FILES", 1)
    with pytest.raises(UsageError, match="holds more than 1 files"):
        lint_privacy(folder)


def test_a_refusal_never_prints_the_id() -> None:
    source = take_apart(statement(scope__model__name=f"{EMAIL}.pt"), "the certificate")
    assert source is not None
    with pytest.raises(
        UsageError, match=r"nothing was signed: the certificate would hold the id listed at ids.txt:1"
    ) as found:
        require_no_ids(index(EMAIL), [source], done="nothing was signed")
    assert EMAIL not in str(found.value)
    assert "predicate.scope.model.name" in str(found.value)
