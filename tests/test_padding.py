"""A padded request: nothing in certificate, plan, evidence, report or gate output says how many ids it has."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import SMALLEST, files_below, fix_secrets, predicate_of, request_ids, write_project

from cu_cert.cli.main import run
from cu_cert.errors import DataError
from cu_cert.issue import Findings
from cu_cert.padding import METRICS, OF_MODELS, OF_SETS, utility_sets, without_size
from cu_cert.rng import Stream
from cu_certificates.check.receipt import read_receipt, require_receipt
from cu_certificates.errors import UsageError
from cu_certificates.plan import Plan
from cu_certificates.request import commit, leaves_of, padded_size

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
IDS = [f"person-{number}" for number in range(7)]
TRAINED, HELD_OUT, PADDED = 123, 27, 32
SIZES = (13, 29)


# --- The tree ---------------------------------------------------------------------------------------------------------


def test_padding_comes_from_the_key_and_looks_like_commitments() -> None:
    plain, padded, more = (leaves_of(IDS, KEY, size) for size in (0, 16, 40))
    assert len(plain) == 7
    assert (len(padded), len(more)) == (16, 40)
    assert set(plain) < set(padded) < set(more)
    assert padded == sorted(set(padded)) == leaves_of(reversed(IDS), KEY, 16)
    assert {len(leaf) for leaf in more} == {32}
    assert not set(leaves_of(IDS, OTHER, 40)) & set(more)
    # Padding lies anywhere among the commitments, not behind them.
    assert set(padded[:8]) - set(plain)
    assert set(padded[8:]) - set(plain)
    bits = np.unpackbits(np.frombuffer(b"".join(set(leaves_of(IDS, KEY, 4000)) - set(plain)), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / len(bits) ** 0.5


@pytest.mark.parametrize(
    ("count", "multiple", "size"), [(1, 0, 1), (1, 32, 32), (32, 32, 32), (33, 32, 64), (7, 2, 8), (8, 2, 8)]
)
def test_sizes_are_rounded_up_to_a_multiple(count: int, multiple: int, size: int) -> None:
    assert padded_size(count, multiple) == size
    found = commit([f"id {number}" for number in range(count)], KEY, pad_to=multiple)
    assert (found.size, found.least) == (size, size - multiple + 1 if multiple else None)
    stated = found.to_predicate()["commitment"]
    assert isinstance(stated, dict)
    assert stated.get("padded") == ({"from": size - multiple + 1, "to": size} if multiple else None)


def test_what_cannot_be_padded() -> None:
    with pytest.raises(UsageError, match="2 ids are not in the data, and the certificate would state that number"):
        commit(IDS, KEY, allowed_missing=2, pad_to=32)
    with pytest.raises(UsageError, match="10000020 commitments; expected at most 10000000"):
        commit(IDS, KEY, pad_to=10_000_020)


# --- Two audits of requests of different size ----------------------------------------------------------------------


@dataclass(frozen=True)
class Audits:
    """Output folders by the true size of the request."""

    folders: dict[int, Path]

    def __getitem__(self, size: int) -> Path:
        return self.folders[size]


@cache
def audited(base: Path, pad: int) -> Audits:
    folders = {}
    for size in SIZES:
        folder = write_project(
            base / f"padding-{'few' if size == SIZES[0] else 'many'}-{bool(pad)}",
            **{**SMALLEST, "more": f"{SMALLEST['more']}\npad_request = {pad}"},
            forget=size,
        )
        fix_secrets(folder, "padding")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CU_CERT_CONFIG", str(base / "config-padding"))
            patch.chdir(folder)
            assert run(["train", "-o", "model.pt"]) == 0
            method = ["--method", "retrain"] if pad else ["--procedure", "none"]  # the shorter audit is enough
            assert run(["audit", "model.pt", "--forget", "ids.txt", *method, "--json"]) == 0
            key = next((base / "config-padding").glob("*.pub.pem"))
            assert run(["key", "trust", str(key), "-o", "trust.toml"]) == 0
        folders[size] = folder
    return Audits(folders)


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Audits:
    return audited(tmp_path_factory.getbasetemp(), PADDED)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Audits:
    return audited(tmp_path_factory.getbasetemp(), 0)


def leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{place}[{index}]")
    else:
        yield place, value


TELLING: dict[str, Callable[[int], int]] = {
    "the size": lambda size: size,
    "what remains": lambda size: TRAINED - size,
    "with the held-out records": lambda size: HELD_OUT + size,
    "what remains of all": lambda size: TRAINED + HELD_OUT - size,
    "one less": lambda size: size - 1,
    "half": lambda size: size // 2,
}


def told(first: object, second: object) -> list[str]:
    """The ways in which two values at one place tell the sizes 13 and 29 apart."""
    numbers = [
        [int(token) for token in re.findall(r"(?<![\w.])[0-9]+(?![\w.])", str(value))] for value in (first, second)
    ]
    return [
        name
        for name, of in TELLING.items()
        for one, two in zip(*numbers, strict=False)
        if (one, two) == (of(SIZES[0]), of(SIZES[1]))
    ]


def seen_on(page: Path) -> list[str]:
    """The text of a page by pieces, without drawings and the raw certificate."""
    words = re.sub(r"(?s)<pre.*?</pre>|<script.*?</script>|<svg.*?</svg>", "", page.read_text())
    return re.sub(r"<[^>]+>", "\n", words).split("\n")


def documents(folder: Path) -> dict[str, Any]:
    """Everything that is handed on, parsed where it is JSON."""
    out = folder / "audit-out"
    evidence = {
        name: [json.loads(line) for line in data.splitlines()] for name, data in files_below(out / "evidence").items()
    }
    return {
        "certificate": predicate_of(out),
        "plan": json.loads((out / "plan.json").read_bytes()),
        "evidence": evidence,
        "report": seen_on(out / "report.html"),
    }


def leaking(audits: Audits) -> list[str]:
    first, second = (dict(leaves(documents(audits[size]))) for size in SIZES)
    # Bins of models, and the order in which models stand, depend on chance; they hold no number of records.
    chance = re.compile(r"\.plots\.[a-z]+\.series|\.(slot|score|seed|model|signals|file)$")
    return [
        f"{place}: {found}"
        for place in first
        if place in second and not chance.search(place)
        for found in told(first[place], second[place])
    ]


def test_no_number_at_any_place_tells_two_sizes_apart(padded: Audits) -> None:
    assert leaking(padded) == []


def test_the_same_search_finds_the_size_where_it_is_stated(plain: Audits) -> None:
    found = leaking(plain)
    for place in (".certificate.request.commitment.size: the size", ".plan.request.size: the size"):
        assert place in found
    assert any(place.startswith(".certificate.claims") and place.endswith("what remains") for place in found)
    assert any(place.startswith(".report") for place in found)


def test_the_public_numbers_of_both_sizes_are_alike_in_kind(padded: Audits) -> None:
    first, second = (documents(padded[size]) for size in SIZES)
    for name in ("certificate", "plan"):
        assert [place for place, _ in leaves(first[name])] == [place for place, _ in leaves(second[name])]
    # In slots.jsonl only the slots whose coin shows "unlearned" have a second row, and in shared.jsonl an original.
    by_coins = ("slots.jsonl", "shared.jsonl")
    found = [
        {name: len(rows) for name, rows in one["evidence"].items() if name not in by_coins} for one in (first, second)
    ]
    assert found[0] == found[1]
    spare = [
        len(one["evidence"]["shared.jsonl"])
        - sum(row.get("role") == "unlearned" for row in one["evidence"]["slots.jsonl"])
        for one in (first, second)
    ]
    assert spare[0] == spare[1] > 0
    assert len(first["report"]) == len(second["report"])
    for found in (first, second):
        predicate = found["certificate"]
        stated = {"scheme": "cu-cert-forget/1", "size": PADDED, "padded": {"from": 1, "to": PADDED}}
        assert predicate["request"]["commitment"] | stated == predicate["request"]["commitment"]
        assert found["plan"]["request"]["padded"] == {"from": 1, "to": PADDED}
        assert "L18" in predicate["limitations"]
        groups = [row["group"] for row in found["evidence"]["utility.jsonl"]]
        assert {name: groups.count(name) for name in groups} == {"held-out": HELD_OUT, "retained": TRAINED - PADDED}
        kinds = {claim["type"] for claim in predicate["claims"]}
        assert kinds <= {*OF_MODELS, *OF_SETS, "metric"}
        assert {claim["id"] for claim in predicate["claims"] if claim["type"] == "metric"} <= set(METRICS)
        assert "roc" not in predicate["plots"]


def test_a_padded_certificate_is_verified_and_gated_like_any_other(
    padded: Audits, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sarif = {}
    for size in SIZES:
        folder = padded[size]
        bundle, trust = str(folder / "audit-out" / "certificate.sigstore.json"), str(folder / "trust.toml")
        assert run(["verify", bundle, "--trust", trust, "--model", str(folder / "model.pt")]) == 0
        assert run(["check", bundle]) == 0
        capsys.readouterr()
        asked = ["--trust", trust, "--policy", str(folder / "cu-cert.toml"), "--model", str(folder / "model.pt")]
        assert run(["gate", bundle, *asked, "--format", "sarif"]) in (0, 1, 3)
        sarif[size] = dict(leaves(json.loads(capsys.readouterr().out)))
    first, second = sarif.values()
    assert [place for place in first if place in second and told(first[place], second[place])] == []


def test_receipts_of_a_padded_request(padded: Audits, tmp_path: Path) -> None:
    folder = padded[13]
    out = folder / "audit-out"
    asked = [
        "--certificate",
        str(out / "report.html"),
        "--private",
        str(out / "private"),
        "--all",
        "-o",
        str(tmp_path / "r"),
    ]
    assert run(["receipt", "issue", *asked]) == 0
    rows = dict(line.split(",") for line in (out / "private" / "receipts.csv").read_text().splitlines()[1:])
    (out / "private" / "receipts.csv").unlink()
    places = set()
    for identifier in request_ids(folder):
        receipt = read_receipt((tmp_path / "r" / rows[identifier]).read_bytes())
        require_receipt(receipt, identifier)
        assert (receipt.request.size, receipt.request.least) == (PADDED, 1)
        places.add(receipt.index)
    assert len(places) == 13
    # The project's own copy of K gives the same tree.
    again = ["--private", str(folder), "--forget", str(folder / "ids.txt"), "--id", request_ids(folder)[0]]
    assert (
        run(["receipt", "issue", "--certificate", str(out / "report.html"), *again, "-o", str(tmp_path / "one")]) == 0
    )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "r" / rows[request_ids(folder)[0]]).read_bytes()


def test_scores_from_elsewhere_are_padded_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_outside import BOTH, World, judged, pin_coins

    monkeypatch.chdir(tmp_path)
    pin_coins(monkeypatch)
    world = World(tmp_path)
    world.plan(BOTH, "pad_request = 16")
    assert run(["plan", "plan.toml", "--forget", "ids.txt"]) == 0
    plan = json.loads((tmp_path / "plan-out" / "plan.json").read_bytes())
    assert plan["request"] | {"size": 16, "padded": {"from": 1, "to": 16}} == plan["request"]
    world.write(world.order())
    predicate = judged()
    assert predicate["request"]["commitment"]["padded"] == {"from": 1, "to": 16}
    assert {claim["id"] for claim in predicate["claims"] if claim["type"] == "metric"} <= set(METRICS)
    assert "roc" not in predicate["plots"]
    assert "L18" in predicate["limitations"]


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pad", "more", "arguments", "message"),
    [
        (1, "", [], "expected 0 (off) or 2 to 1000000"),
        (-32, "", [], "expected 0 (off) or 2 to 1000000"),
        (128, "", [], "states a size of 128; expected fewer than the 123 training records"),
        (32, "", ["--no-retrain"], "--no-retrain compares record by record"),
        (32, "nobody-1\n", ["--allow-missing"], "1 ids are not in the data, and the certificate would state"),
    ],
)
def test_what_would_give_the_size_away_is_refused(
    pad: int,
    more: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_project(tmp_path, **SMALLEST)
    for name, text in (("ids.txt", more), ("cu-cert.toml", f"pad_request = {pad}\n")):
        with (folder / name).open("a") as stream:
            stream.write(text)
    (folder / "model.pt").write_bytes(b"never looked into")
    monkeypatch.chdir(folder)
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "retrain", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "audit-out").exists()


def test_a_kind_of_claim_that_nobody_thought_of_is_refused(padded: Audits) -> None:
    plan = _plan(padded)
    found = Findings(subject=plan.subjects[0], source="option", claims=[], plots={"roc": {}, "eps": {}}, evidence={})
    assert set(without_size(found, plan).plots) == {"eps"}
    for claim, message in (
        ({"id": "c-chain", "type": "chain", "removed": 13}, "a claim of type 'chain' may give the size"),
        ({"id": "c-new", "type": "new"}, "a claim of type 'new' may give the size"),
        ({"id": "c", "type": "count", "group": "request"}, "counts the request's records"),
        ({"id": "c", "type": "utility", "set": "request"}, "counts the request's records"),
    ):
        with pytest.raises(DataError, match=message):
            without_size(replace(found, claims=[claim]), plan)
    with pytest.raises(DataError, match="evidence 'labels' has a row for each record"):
        without_size(replace(found, evidence={("labels", "labels", "l", "controlled"): b""}), plan)
    open_plan = replace(plan, request_least=None)
    claims: list[dict[str, object]] = [{"id": "c-chain", "type": "chain"}]
    assert without_size(replace(found, claims=claims), open_plan).claims == claims


def _plan(padded: Audits) -> Plan:
    from cu_certificates.plan import Sizes, Subject

    return Plan(
        subjects=(
            Subject(name="m", model="0" * 64, method="npo", parameters={}, guarantee="none", level="EMPIRICAL",
                    tested_eps=Fraction(1, 2), tested_delta=Fraction(0)),
        ),
        questions=("procedure",), alpha_total=Fraction(1, 20), detect_eps=Fraction(2),
        sizes=Sizes(slots=32, guesses=24, control_slots=32, control_guesses=24, references=1, negatives=1, pilots=2),
        request_root="0" * 64, request_size=32, request_least=1, recipe="0" * 64, data="0" * 64,
    )  # fmt: skip


def test_the_sample_of_retained_records_is_a_fair_one(padded: Audits) -> None:
    plan, retained = _plan(padded), np.arange(110) % 2 == 0
    held_out, request = np.ones(27, dtype=bool), np.zeros(13, dtype=bool)
    shares = []
    for number in range(200):
        found = utility_sets(
            held_out, retained, request, plan=plan, trained=TRAINED, rng=Stream.from_seed(f"sample {number}")
        )
        assert set(found) == {"held-out", "retained"}
        assert len(found["retained"]) == TRAINED - 32
        shares.append(found["retained"].mean())
    assert abs(np.mean(shares) - 0.5) < 0.01
    assert len(set(shares)) > 5
    whole = utility_sets(
        held_out, retained, request, plan=replace(plan, request_least=None), trained=TRAINED, rng=Stream.from_seed("x")
    )
    assert [len(values) for values in whole.values()] == [27, 110, 13]
