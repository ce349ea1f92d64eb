"""Audits that share originals: nothing is trained twice, coins open once, the others are named, and levels hold."""

import base64
import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom
from small_project import SMALLEST, fix_secrets, predicate_of, store_of, write_project

import cu_cert.protocol
from cu_cert.data import load_records
from cu_cert.errors import Interrupted
from cu_cert.project import Project, load_project
from cu_cert.protocol import Audited, audit
from cu_cert.secrets_store import FOLDER, Secrets
from cu_cert.stocking import train_release
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model
from cu_cert.uses import Ledger
from cu_certificates.check.checker import check_payload
from cu_certificates.check.main import accepted, check_file
from cu_certificates.check.power import critical_guesses
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.trust import load_trust, write_trust
from cu_certificates.verify import verify

Json = dict[str, Any]

REQUESTS = {"first": (0, 10), "second": (10, 20), "overlap": (15, 25), "third": (30, 40), "padded": (40, 50)}


@dataclass(frozen=True)
class Place:
    """A project in which several requests are audited."""

    folder: Path

    @property
    def project(self) -> Project:
        return load_project(self.folder / "cu-cert.toml")

    @property
    def ledger(self) -> Ledger:
        return Ledger(Secrets(self.folder / FOLDER))

    def audited(self, name: str, *, out: str = "", method: str = "retrain", **changes: Any) -> Audited:
        project = self.project
        return audit(
            self.folder / f"{name}.pt",
            self.folder / f"{name}.txt",
            project=replace(project, audit=replace(project.audit, **changes)),
            method=method,
            out=self.folder / (out or name),
            quiet=True,
            say=lambda line: None,
        )

    def entries(self) -> set[str]:
        """Addresses of all models that were ever trained here."""
        found = {path.stem for path in store_of(self.folder).rglob("*.json")}
        return {name for name in found if re.fullmatch("[0-9a-f]{64}", name)}

    def models(self, out: str, role: str = "") -> set[str]:
        """Digests of the models that a certificate's evidence names."""
        rows = [
            json.loads(line)
            for path in (self.folder / out / "evidence").glob("*.jsonl")
            if path.stem in ("slots", "artifact", "pilots")
            for line in path.read_text().splitlines()
        ]
        return {row["model"] for row in rows if row["kind"] == "run" and row.get("role", "").startswith(role)}

    def shared(self, out: str) -> list[Json]:
        return [json.loads(line) for line in (self.folder / out / "evidence/shared.jsonl").read_text().splitlines()]


def made(folder: Path) -> Place:
    # One after another: cohorts would fill up with originals that no plan of this size takes.
    write_project(folder, **SMALLEST | {"more": SMALLEST["more"] + '\nengine = "single"'})
    fix_secrets(folder, "test_shared_audit")
    place = Place(folder)
    ids = load_records(place.project.data, folder).train.ids
    train_model(place.project, folder / "before.pt")
    for name, (start, stop) in REQUESTS.items():
        (folder / f"{name}.txt").write_text("\n".join(ids[start:stop]) + "\n")
        unlearn_model(
            place.project, folder / "before.pt", folder / f"{name}.txt", folder / f"{name}.pt", method="retrain"
        )
    return place


@dataclass(frozen=True)
class History:
    """Audits one after another, and the models that each of them had trained."""

    place: Place
    made: dict[str, set[str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A project with what was made for each request, before any audit; only copied."""
    return made(tmp_path_factory.mktemp("base") / "project")


@pytest.fixture(scope="module")
def history(base: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Audits of several requests; only read."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shared")
        patch.setenv("CU_CERT_CONFIG", str(folder / "config"))
        place = Place(Path(shutil.copytree(base.folder, folder / "project")))
        new: dict[str, set[str]] = {}
        steps: dict[str, Json] = {
            "first": {},
            "second": {},
            "overlap": {},
            "again": {"attempt": 2},
            "padded": {"pad_request": 16},
            "third": {},
        }
        for name, changes in steps.items():
            before = place.entries()
            place.audited("first" if name == "again" else name, out=name, **changes)
            new[name] = place.entries() - before
        yield History(place, new)


# Nothing is trained twice, and coins open once


def test_the_second_audit_trains_no_original_again(history: History) -> None:
    place = history.place
    first, second = place.models("first"), place.models("second")
    # Every original is named by its positive control, so every trained model stands in the evidence.
    assert len(history.made["first"]) == len(first)
    assert len(history.made["second"]) == len(second - first) < len(second)
    # Pilots, the artifact question's original, and as many slots as both have: originals and nothing else.
    common = first & second
    assert common == place.models("first", "original") & place.models("second", "original")
    assert common in (place.models("first", "original"), place.models("second", "original"))


def test_an_overlapping_request_gets_originals_that_were_never_judged(history: History) -> None:
    place = history.place
    pilots = {row["model"] for row in rows(place.folder / "first/evidence/pilots.jsonl") if row["role"] == "original"}
    assert len(pilots) == 4
    assert place.models("overlap") & place.models("second") == pilots
    judged = {use.plan: set(use.judged) for use in place.ledger.read()}
    plan = {name: predicate_of(place.folder / name)["plan"]["digest"]["sha256"] for name in history.made}
    assert not judged[plan["overlap"]] & judged[plan["second"]]
    assert not judged[plan["again"]] & judged[plan["first"]]
    assert judged[plan["third"]] & judged[plan["first"]]


def test_a_second_attempt_gets_new_originals_and_the_old_pilots(history: History) -> None:
    place = history.place
    pilots = {row["model"] for row in rows(place.folder / "first/evidence/pilots.jsonl")}
    assert place.models("again") & place.models("first") == pilots
    assert len(pilots) == 12


def test_a_padded_request_shares_pilots_alone(history: History) -> None:
    place = history.place
    for other in ("first", "second", "overlap", "again", "third"):
        assert len(place.models("padded") & place.models(other)) == 4, other
    assert [use.closed for use in place.ledger.read()] == [False, False, False, False, True, False]


def test_no_model_that_fitted_a_score_is_judged_in_any_audit(history: History) -> None:
    place = history.place
    fitted, judged = set(), set()
    for name in history.made:
        pilots = {row["model"] for row in rows(place.folder / name / "evidence/pilots.jsonl")}
        fitted |= pilots
        judged |= place.models(name) - pilots
    assert not fitted & judged


def rows(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# What is said


def test_each_certificate_names_those_before_it(history: History) -> None:
    place = history.place
    plans: dict[str, int] = {}
    for number, name in enumerate(history.made, 1):
        found = predicate_of(place.folder / name)
        head, *lines = place.shared(name)
        named = {line["plan"]: line["certificates"] for line in lines if line["kind"] == "plan"}
        # The pilots of a release serve all its plans.
        assert named == {digest: [at] for digest, at in plans.items()}
        assert found["sequence"] == number
        assert found["sharing"]["plans"] == len(plans)
        assert found["sharing"]["latest"] == [{"plan": p, "certificates": [at]} for p, at in plans.items()][-8:]
        assert ("A21" in found["assumptions"], "L19" in found["limitations"]) == (number > 1, number > 1)
        assert head == {"kind": "release", "older": number > 1, "release": head["release"]}
        models = {line["model"]: line for line in lines if line["kind"] == "model"}
        for at in range(len(plans)):
            other_name = list(history.made)[at]
            common = {digest for digest, line in models.items() if at in line["plans"]}
            assert common == place.models(name) & place.models(other_name), (name, other_name)
        assert found["sharing"]["models"] == sum(bool(line["plans"]) for line in models.values())
        # Every original is listed with its seed, shared or not, since no other file tells it.
        assert place.models(name, "original") <= set(models)
        plans[found["plan"]["digest"]["sha256"]] = number


def test_certificates_verify_and_the_checker_accepts_them(history: History) -> None:
    folder = history.place.folder
    public = next((folder.parent / "config").glob("*.pub.pem"))
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    write_trust(folder / "trust.toml", public, not_before=yesterday)
    trust, verdicts = load_trust(folder / "trust.toml"), []
    for name in history.made:
        assert accepted(check_file(folder / name / "certificate.sigstore.json")), name
        verdicts.append(verify(folder / name / "report.html", trust=trust, now=datetime.now(UTC)).verdict)
    # Each audit of a retrained model errs with probability 1/20, shared originals or not.
    assert verdicts.count("REFUTED") <= binom.ppf(0.999, len(verdicts), float(ALPHA))


def test_the_report_says_with_whom(history: History) -> None:
    folder = history.place.folder
    first, second, third = ((folder / name / "report.html").read_text() for name in ("first", "second", "third"))
    plan = predicate_of(folder / "first")["plan"]["digest"]["sha256"]
    assert "Shared models" not in first
    count = predicate_of(folder / "second")["sharing"]["models"]
    assert f"{count} that other plans use as well: plan {plan[:16]} (certificate 1)" in second
    assert "A21" in second
    assert len(third.encode()) - len(first.encode()) < 6000


def test_no_id_stands_in_the_ledger(history: History) -> None:
    text = history.place.ledger.path.read_text()
    assert "person" not in text
    assert history.place.ledger.path.stat().st_mode & 0o777 == 0o600


# Order of events


@pytest.fixture
def place(base: Place, tmp_path: Path) -> Place:
    return Place(Path(shutil.copytree(base.folder, tmp_path / "project")))


def test_a_dry_run_and_a_plan_enter_nothing(place: Place) -> None:
    project = place.project
    steps: list[Json] = [{"dry_run": True}, {"plan_only": True}]
    for options in steps:
        audit(
            place.folder / "first.pt", place.folder / "first.txt", project=project, method="retrain",
            out=place.folder / "out", say=lambda line: None, **options,
        )  # fmt: skip
    assert not place.ledger.path.exists()
    assert place.entries() == set()


ONE: Json = {"questions": ("procedure",)}


def test_an_interrupted_audit_goes_on_with_what_it_was_lent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> int:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(cu_cert.protocol, "train_fleet", stopped)
        with pytest.raises(Interrupted):
            place.audited("second", **ONE)
    assert place.entries() == set()
    (lent,) = place.ledger.read()
    place.audited("overlap", **ONE)
    place.audited("second", **ONE)
    uses = place.ledger.read()
    assert uses[0] == lent
    assert len(uses) == 2
    assert not set(uses[0].judged) & set(uses[1].judged)
    # The plan that was entered first is named by the one that was finished first.
    assert predicate_of(place.folder / "overlap")["sharing"]["latest"] == [{"plan": lent.plan, "certificates": []}]
    assert "no certificate yet" in (place.folder / "overlap/report.html").read_text()


def test_the_key_that_switches_it_off(place: Place) -> None:
    place.audited("first", share_originals=False, **ONE)
    place.audited("second", share_originals=False, **ONE)
    assert not place.models("first") & place.models("second")
    assert "sharing" not in predicate_of(place.folder / "second")
    # The same plan keeps its own originals when the key is switched on again.
    before = place.entries()
    place.audited("first", share_originals=True, **ONE)
    assert place.entries() == before
    # Pilots serve a second attempt with and without it.
    place.audited("first", out="again", share_originals=False, attempt=2, **ONE)
    assert len(place.models("again") & place.models("first")) == 12
    assert predicate_of(place.folder / "again")["sharing"]["models"] == 12


def test_one_original_for_all_slots_is_the_plans_own(place: Place) -> None:
    place.audited("first", original="fixed", **ONE)
    place.audited("second", original="fixed", **ONE)
    assert len(place.models("first") & place.models("second")) == 4  # the pilots
    assert [use.judged for use in place.ledger.read()] == [(), ()]


def test_a_sequence_that_ends_early_names_what_it_opened(place: Place) -> None:
    early = ONE | {"slots": 64, "sequential": True, "method": "identity"}
    place.audited("first", **early)
    place.audited("second", **early)
    lent = [len(use.judged) for use in place.ledger.read()]
    opened = [len(place.models(name, "original")) - 4 for name in ("first", "second")]
    assert all(few < all_ for few, all_ in zip(opened, lent, strict=True))
    named = {line["model"] for line in place.shared("second") if line["kind"] == "model"}
    assert named == place.models("second", "original")
    # The first plan was lent more than it opened; what was set aside for it is named, too.
    assert predicate_of(place.folder / "second")["sharing"]["models"] == 4 + min(opened[1], lent[0])
    assert place.models("first") & place.models("second") <= named
    assert accepted(check_file(place.folder / "second" / "certificate.sigstore.json"))


def test_models_that_are_older_than_the_plan_are_said_to_be(place: Place) -> None:
    stocked = train_release(place.project, quiet=True)
    assert (stocked.plan.pilots, stocked.plan.judged) == (4, 8 + 4 + 1 + 1)
    assert stocked.trained == stocked.plan.models == len(place.entries()) == 18
    before = place.entries()
    place.audited("first")
    originals = place.models("first", "original")
    assert len(place.entries() - before) == len(place.models("first") - originals)
    found = predicate_of(place.folder / "first")
    assert found["sharing"] == {"evidence": "shared", "latest": [], "models": 0, "older": True, "plans": 0}
    assert "A21" in found["assumptions"]
    assert "L19" in found["limitations"]
    assert "Some models were made before this plan." in (place.folder / "first/report.html").read_text()
    # The ledger remembers it, so the same audit says the same again.
    place.audited("first", out="again")
    assert predicate_of(place.folder / "again")["sharing"] == found["sharing"]


# The checker


def statement_of(out: Path) -> Json:
    bundle = json.loads((out / "certificate.sigstore.json").read_bytes())
    found: Json = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    return found


def checked(statement: Json, files: dict[str, bytes]) -> bool:
    import hashlib

    statement = copy.deepcopy(statement)
    for entry in statement["predicate"]["evidence"]:
        if entry["name"] in files:
            entry["digest"] = {"sha256": hashlib.sha256(files[entry["name"]]).hexdigest()}
    return accepted(check_payload(canonical(statement), files.get))


SHARED = "evidence/shared.jsonl"


def edited(change: Callable[[list[Json]], object]) -> Callable[[Json, dict[str, bytes]], None]:
    """Change the lines of the evidence about shared models."""

    def apply(_: Json, files: dict[str, bytes]) -> None:
        lines = [json.loads(line) for line in files[SHARED].splitlines()]
        change(lines)
        files[SHARED] = b"".join(canonical(line) + b"\n" for line in lines)

    return apply


def stated(**fields: Any) -> Callable[[Json, dict[str, bytes]], None]:
    return lambda predicate, _: predicate["sharing"].update(fields)


def without(key: str, name: str) -> Callable[[Json, dict[str, bytes]], None]:
    return lambda predicate, _: predicate[key].remove(name)


def unlisted(predicate: Json, _: dict[str, bytes]) -> None:
    predicate["evidence"] = [entry for entry in predicate["evidence"] if entry["id"] != "shared"]


def line_of(first: str, /, **fields: Any) -> Callable[[Json, dict[str, bytes]], None]:
    return edited(lambda lines: next(line for line in lines if line["kind"] == first).update(fields))


DISHONEST: dict[str, tuple[Callable[[Json, dict[str, bytes]], None], str]] = {
    "the assumption is left out": (without("assumptions", "A21"), "assumptions leaves out A21"),
    "the limitation is left out": (without("limitations", "L19"), "limitations leaves out L19"),
    "the field is left out": (lambda predicate, _: predicate.pop("sharing"), "predicate.sharing: missing"),
    "the evidence is not listed": (unlisted, "is not listed"),
    "another evidence": (stated(evidence="slots"), "expected shared"),
    "fewer models": (stated(models=1), "the evidence names"),
    "no plans": (stated(plans=0), "the evidence names 1"),
    "not older": (stated(older=False), "the evidence says otherwise"),
    "another plan": (stated(latest=[{"plan": "0" * 64, "certificates": [1]}]), "not the last 1 plans"),
    "another certificate": (line_of("plan", certificates=[2]), "not the last 1 plans"),
    "no plan named": (stated(latest=[]), "not the last 1 plans"),
    "its own plan": (
        lambda predicate, files: line_of("plan", plan=predicate["plan"]["digest"]["sha256"])(predicate, files),
        "the certificate's own",
    ),
    "a plan twice": (edited(lambda lines: lines.insert(1, dict(lines[1]))), "stands twice"),
    "a plan with which nothing is shared": (
        edited(lambda lines: lines.insert(1, lines[1] | {"plan": "0" * 64})), "no model is shared"
    ),
    "a plan behind a model": (edited(lambda lines: lines.append(lines.pop(1))), "behind a model"),
    "a model twice": (edited(lambda lines: lines.append(lines[-1])), "stands twice"),
    "a model of nobody": (line_of("model", model="0" * 64), "no model of this certificate"),
    "a model fewer": (edited(lambda lines: lines.remove(next(x for x in lines if x.get("plans")))), "names"),
    "an unknown plan": (line_of("model", plans=[1]), "from 0 to 0"),
    "a plan before the first": (line_of("model", plans=[-1]), "from 0 to 0"),
    "true for a number": (line_of("model", plans=[True]), "ascending whole numbers"),
    "a number twice": (line_of("model", plans=[0, 0]), "ascending whole numbers"),
    "no list": (line_of("model", plans=0), "expected a list"),
    "an unknown role": (line_of("model", role="pilot"), "role"),
    "no seed": (line_of("model", seed="x"), "seed"),
    "no release": (line_of("release", release="x"), "release"),
    "no head": (edited(lambda lines: lines.pop(0)), "kind"),
    "an unknown line": (line_of("plan", kind="other"), "kind"),
    "certificates in disorder": (line_of("plan", certificates=[2, 1]), "ascending whole numbers"),
    "certificate nought": (line_of("plan", certificates=[0]), "ascending whole numbers"),
    "empty": (lambda _, files: files.update({SHARED: b"\n"}), "shared.jsonl"),
    "of another kind": (lambda predicate, _: predicate.update(sharing=[]), "expected an object"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISHONEST)
def test_what_is_said_of_sharing_must_be_what_the_evidence_says(history: History, name: str) -> None:
    out = history.place.folder / "second"
    statement = statement_of(out)
    files = {entry["name"]: (out / entry["name"]).read_bytes() for entry in statement["predicate"]["evidence"]}
    assert checked(statement, files)
    change, found = DISHONEST[name]
    change(statement["predicate"], files)
    with pytest.raises(Rejected, match=re.escape(found)):
        checked(statement, files)


def test_evidence_of_an_unknown_kind_takes_nothing_from_a_claim_and_adds_nothing(history: History) -> None:
    out = history.place.folder / "second"
    statement = statement_of(out)
    files = {entry["name"]: (out / entry["name"]).read_bytes() for entry in statement["predicate"]["evidence"]}
    before = check_payload(canonical(statement), files.get)
    entry = {"id": "later", "kind": "later", "name": "evidence/later.jsonl", "access": "controlled"}
    statement["predicate"]["evidence"].append(entry | {"digest": {"sha256": "0" * 64}})
    assert checked(statement, files | {"evidence/later.jsonl": b"whatever\n"})
    # Its bytes must be the signed ones, and without it nothing is accepted: an absent file is no smaller certificate.
    with pytest.raises(Rejected, match="altered or exchanged"):
        check_payload(canonical(statement), (files | {"evidence/later.jsonl": b"whatever\n"}).get)
    absent = check_payload(canonical(statement), files.get)
    assert (absent.derived, absent.missing) == ("INCONCLUSIVE", ("evidence/later.jsonl",))
    assert [claim.status for claim in absent.claims] == [claim.status for claim in before.claims]


def test_without_its_evidence_nothing_is_accepted(history: History) -> None:
    out = history.place.folder / "second"
    statement = statement_of(out)
    files = {entry["name"]: (out / entry["name"]).read_bytes() for entry in statement["predicate"]["evidence"]}
    del files[SHARED]
    found = check_payload(canonical(statement), files.get)
    assert (found.derived, found.missing) == ("INCONCLUSIVE", (SHARED,))


# The level

WORLDS, SLOTS, GUESSES, ALPHA = 4000, 64, 48, Fraction(1, 20)


def refuted(
    originals: npt.NDArray[np.bool_], eps: Fraction, *, audits: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Audit several requests with the same originals in each world; coins and retrained models are fresh.

    What the method makes of an original is one bit, and the same bit whatever the request: no audits could depend on
    each other more. A retrained model's bit is 1 with probability 1/(1 + e^eps).

    Args:
        originals: The bit of each original, shape (worlds, originals).
        eps: eps* of the guarantee.
        audits: Number of requests.
        rng: Draws coins, retrained models and ties.

    Returns:
        Whether each certificate refutes, shape (worlds, audits).
    """
    needed = critical_guesses(SLOTS, GUESSES, ALPHA, eps, Fraction(0))
    assert needed is not None
    chance = 1 / (1 + np.exp(float(eps)))
    found = []
    for _ in range(audits):
        coins = rng.random((len(originals), SLOTS)) < 0.5
        place = np.cumsum(coins, axis=1) - 1  # the h-th head takes the h-th original
        unlearned = np.take_along_axis(originals, np.maximum(place, 0), axis=1)
        bits = np.where(coins, unlearned, rng.random(coins.shape) < chance)
        order = np.argsort(bits + 1e-6 * rng.random(coins.shape), axis=1)
        ranked = np.take_along_axis(coins, order, axis=1)
        half = GUESSES // 2
        right = ranked[:, -half:].sum(axis=1) + (~ranked[:, :half]).sum(axis=1)
        found.append(right >= needed)
    return np.stack(found, axis=1)


@pytest.mark.parametrize("eps", [Fraction(0), Fraction(1, 2), Fraction(1)], ids=["perfect", "half", "one"])
def test_shared_originals_keep_the_level_of_each_certificate(eps: Fraction) -> None:
    rng = np.random.default_rng(20)
    chance = 1 / (1 + np.exp(-float(eps)))
    originals = rng.random((WORLDS, SLOTS)) < chance
    found = refuted(originals, eps, audits=5, rng=rng)
    most = binom.ppf(0.999, WORLDS, float(ALPHA))
    assert (found.sum(axis=0) <= most).all()
    # The certificates are not independent, so their errors come together: that is what limitation L19 says.
    together = found.all(axis=1).mean()
    assert together > found.mean() ** 5
    # Any of five errs in at most five times alpha, whatever their dependence.
    assert found.any(axis=1).sum() <= binom.ppf(0.999, WORLDS, 5 * float(ALPHA))


def test_a_method_that_was_chosen_after_a_look_at_the_originals_breaks_the_level() -> None:
    # Of twenty methods, each at exactly eps*, the one is audited whose bits on these very originals stand out most.
    rng, eps = np.random.default_rng(21), Fraction(1, 2)
    chance = 1 / (1 + np.exp(-float(eps)))
    methods = rng.random((20, WORLDS, SLOTS)) < chance
    best = methods[:, :, :32].sum(axis=2).argmax(axis=0)
    chosen = methods[best, np.arange(WORLDS)]
    found = refuted(chosen, eps, audits=1, rng=rng)
    assert found.sum() > binom.ppf(0.999, WORLDS, 2 * float(ALPHA))  # A21 is needed
