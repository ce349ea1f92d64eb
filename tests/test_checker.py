"""The checker on complete certificates: each verdict, each reason to withhold one, files that are absent."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from shutil import copytree

import pytest
from fake_certificate import Fake, fake
from fake_evidence import CLEAN, LEAK, Json, Knobs, digest, plan_of

import cu_certificates.check
from cu_certificates.check.fields import Node
from cu_certificates.check.main import accepted, check_file, evidence_reader, lines_of, main, to_json
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tables import read_artifact, read_slots
from cu_certificates.plan import Plan, Sizes, Subject

FOLDER = Path(cu_certificates.check.__file__).parent
EVERY_THIRD = frozenset(("main", slot) for slot in range(0, 64, 3))


# --- Verdicts --------------------------------------------------------------------------------------------------------

SOUND = "does not exceed eps* = 0.5000; both controls behaved and the planned power is reached"
VERDICTS: list[tuple[str, Knobs, str, list[str]]] = [
    ("clean", Knobs(), "NOT_REFUTED", [f"procedure: eps >= 0.0000 {SOUND}", f"artifact: eps >= 0.0000 {SOUND}"]),
    ("leaking", Knobs(means=LEAK), "REFUTED", ["procedure: eps >= 2.5272 exceeds", "artifact: eps >= 0.5738 exceeds"]),
    ("exact and clean", Knobs(guarantee="exact", tested_eps="0"), "NOT_REFUTED", ["eps* = 0.0000; both", ""]),
    ("exact and leaking", Knobs(guarantee="exact", tested_eps="0", means=LEAK), "REFUTED", ["eps* = 0.0000", ""]),
    ("artifact alone", Knobs(questions=("artifact",), method=None), "NOT_REFUTED", ["artifact: eps >= 0.0000"]),
    ("procedure alone", Knobs(questions=("procedure",)), "NOT_REFUTED", [f"procedure: eps >= 0.0000 {SOUND}"]),
    ("the file alone leaks", Knobs(means=CLEAN | {"subject": 7.0}), "REFUTED", ["artifact: eps >= 0.5738 exceeds"]),
    ("with delta", Knobs(means=LEAK, tested_delta="1/1000", references=100), "REFUTED",
     ["procedure: eps >= 2.5257", "artifact: eps >= 0.8854"]),
    ("positive controls missed", Knobs(means=CLEAN | {"original": 1.0}), "INCONCLUSIVE",
     ["procedure: its positive control was not detected, so it has no power here",
      "artifact: its positive control was not detected, so it has no power here"]),
    ("negative controls failed", Knobs(means=CLEAN | {"rerun": 7.0}), "INCONCLUSIVE",
     ["procedure: its negative control failed, so it makes no claim",
      "artifact: its negative control failed, so it makes no claim"]),
    ("a failed negative control voids a refutation", Knobs(means=LEAK | {"rerun": 7.0}), "INCONCLUSIVE",
     ["procedure: its negative control failed", "artifact: its negative control failed"]),
    ("a missed positive control voids no refutation", Knobs(means=LEAK | {"original": 1.0}), "REFUTED", ["", ""]),
    ("too few slots", Knobs(slots=24), "INCONCLUSIVE", ["procedure: its size does not reach the planned power"]),
    ("too few references", Knobs(references=40, negatives=12), "INCONCLUSIVE",
     ["artifact: its positive control was not detected", "artifact: its size does not reach the planned power"]),
    ("too few references and a leak", Knobs(references=40, negatives=12, means=LEAK), "REFUTED", ["procedure: eps"]),
    ("many failed runs", Knobs(failed=EVERY_THIRD), "INCONCLUSIVE",
     ["procedure: its positive control was not detected"]),
    ("few failed runs", Knobs(failed=frozenset({("main", 3), ("main", 9)})), "NOT_REFUTED", [SOUND, SOUND]),
    ("failed runs and a leak", Knobs(failed=frozenset({("main", 3)}), means=LEAK), "REFUTED", ["eps >= 2.0836", ""]),
    ("failed references", Knobs(failed=frozenset(("reference", slot) for slot in range(30))), "INCONCLUSIVE",
     ["artifact: its positive control was not detected"]),
    ("the artifact's positive control failed", Knobs(questions=("artifact",), failed=frozenset({("positive", 0)})),
     "INCONCLUSIVE", ["artifact: its positive control is missing"]),
    ("failed negative runs", Knobs(failed=frozenset(("negative", slot) for slot in range(3))), "INCONCLUSIVE",
     ["artifact: its negative control failed, so it makes no claim"]),
]  # fmt: skip


@pytest.mark.parametrize(("knobs", "verdict", "reasons"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_the_verdict_follows(knobs: Knobs, verdict: str, reasons: list[str]) -> None:
    found = fake(knobs).state()
    result = found.check()
    assert [claim.detail for claim in result.rejected] == []
    assert (result.derived, result.stated, result.missing) == (verdict, verdict, ())
    assert accepted(result)
    assert len(result.reasons) == len(reasons), result.reasons
    for reason, expected in zip(result.reasons, reasons, strict=True):
        assert expected in reason


def test_failed_references_could_hide_a_refutation() -> None:
    """The file scores above all references that are there, and one failed: alone it decides nothing."""
    knobs = Knobs(
        means=LEAK, questions=("artifact",), references=34, negatives=12, failed=frozenset({("reference", 0)})
    )
    result = fake(knobs).check()
    assert result.derived == "INCONCLUSIVE"
    assert "artifact: failed runs could hide a refutation" in result.reasons


def test_a_draft_states_nothing_and_is_accepted() -> None:
    result = fake(Knobs()).check()
    assert result.stated is None
    assert accepted(result)
    assert "none (unsigned draft)" in lines_of(result)[-1]


def test_every_claim_gets_a_status() -> None:
    found = fake(Knobs(means=LEAK))
    by_type = {claim.type: claim.status for claim in found.check().claims}
    assert by_type == {
        "model-digest": "proved",
        "split": "proved",
        "eps-coinflip": "assumed",  # nobody but the prover drew the seed
        "control": "proved",
        "power": "proved",
        "conformal-p": "proved",
        "eps-group": "assumed",
        "count": "proved",
        "cp": "assumed",
        "eps-lower": "assumed",
        "utility": "assumed",
        "metric": "unverified",
    }


@pytest.mark.parametrize("value", ["REFUTED", "INCONCLUSIVE", "EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM"])
def test_another_verdict_is_not_accepted(value: str) -> None:
    found = fake(Knobs()).state()
    found.predicate["verdict"]["value"] = value
    result = found.check()
    assert (result.stated, result.derived) == (value, "NOT_REFUTED")
    assert not accepted(result)
    found.predicate["verdict"]["value"] = "PASSED"
    with pytest.raises(Rejected, match="expected REFUTED or"):
        found.check()


# --- Files that are absent, altered or exchanged ---------------------------------------------------------------------

ALWAYS = {"m-auc"}
NEEDS = {
    "plan.json": {"c-model", "c-split", "procedure", "artifact", "pool"},
    "evidence/slots.jsonl": {"c-split", "c-eps-procedure", "c-pos-procedure", "c-neg-procedure", "pool"},
    "evidence/artifact.jsonl": {"c-split", "c-p-artifact", "c-eps-artifact", "c-pos-artifact", "c-neg-artifact"},
    "evidence/pilots.jsonl": {"c-split", "pool"},
    "evidence/utility.jsonl": {"held-out", "retained", "request"},
}


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("means", [CLEAN, LEAK], ids=["clean", "leaking"])
def test_without_a_file_its_claims_and_their_children_are_unverified(name: str, means: dict[str, float]) -> None:
    found = fake(Knobs(means=means)).state()
    del found.files[name]
    result = found.check()
    assert result.missing == (name,)
    assert result.derived == "INCONCLUSIVE"
    assert result.reasons == (f"evidence file {name} is not at hand",)
    assert result.rejected == ()
    assert not accepted(result)
    for claim in result.claims:
        unseen = claim.id in ALWAYS or any(part in claim.id for part in NEEDS[name])
        assert (claim.status == "unverified") is unseen, claim


def test_without_any_file_nothing_is_rejected() -> None:
    found = fake(Knobs()).state()
    found.files.clear()
    result = found.check()
    assert len(result.missing) == 5
    assert {claim.status for claim in result.claims} == {"unverified"}
    assert result.derived == "INCONCLUSIVE"


@pytest.mark.parametrize("name", NEEDS)
def test_an_altered_file_voids_everything(name: str) -> None:
    found = fake(Knobs())
    found.files[name] += b"\n"
    with pytest.raises(Rejected, match="altered or exchanged"):
        found.check()


@pytest.mark.parametrize("name", NEEDS)
def test_evidence_that_is_not_listed_cannot_be_relied_on(name: str) -> None:
    found = fake(Knobs()).state()
    found.predicate["evidence"] = [entry for entry in found.predicate["evidence"] if entry["name"] != name]
    if name == "plan.json":
        with pytest.raises(Rejected, match="not listed"):
            found.check()
        return
    assert found.check().rejected
    assert not accepted(found.check())


# --- The issuer's own builders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("knobs", [Knobs(), Knobs(means=LEAK, failed=frozenset({("main", 5), ("reference", 2)}))])
def test_the_issuers_claims_are_the_ones_written_by_hand(knobs: Knobs) -> None:
    from cu_cert.claims import artifact_claims, model_claims, procedure_claims, two_pool_claims, utility_claims

    plan, entry = plan_of(knobs), plan_of(knobs)["subjects"][0]
    subject = Subject(
        name="model.pt", model=digest("file"), method="npo", parameters=entry["parameters"], guarantee="none",
        level="EMPIRICAL", tested_eps=Fraction(1, 2), tested_delta=Fraction(0),
    )  # fmt: skip
    sizes = Sizes(slots=64, guesses=48, control_slots=64, control_guesses=48, references=70, negatives=8, pilots=4)
    planned = Plan(
        subjects=(subject,), questions=knobs.questions, alpha_total=Fraction(1, 20), detect_eps=Fraction(2),
        sizes=sizes, request_root=digest("root"), request_size=5, recipe=digest("recipe"),
        data=digest("data"), seed_commitment=plan["seedCommitment"]["sha256"],
    )  # fmt: skip
    assert planned.to_json() == plan
    found = fake(knobs)
    slots = read_slots(
        found.files["evidence/slots.jsonl"], "s", plan=Node(plan, "p"), plan_digest=planned.digest, identity=False
    )
    artifact = read_artifact(found.files["evidence/artifact.jsonl"], "a", plan=Node(plan, "p"))
    threshold = found.claim("c-count-pool-unlearned")["threshold"]
    built = [
        *model_claims(subject, ["slots", "artifact"]),
        *procedure_claims(slots, planned, subject),
        *artifact_claims(artifact, planned, subject),
        *two_pool_claims(slots, threshold, subject.tested_delta),
        *utility_claims({"held-out": (36, 40), "retained": (45, 50), "request": (4, 5)}),
    ]
    free = {"text"}
    by_hand: list[Json] = [claim for claim in found.predicate["claims"] if claim["type"] != "metric"]
    # The cross-check's level is the issuer's choice, so its bounds may differ; its counts may not.
    for own, hand in zip(built, by_hand, strict=True):
        loose = free | ({"alpha", "bound"} if "pool" in str(own["id"]) else set())
        assert {k: v for k, v in own.items() if k not in loose} == {k: v for k, v in hand.items() if k not in loose}
    found.predicate["claims"] = [*built, found.claim("m-auc")]
    assert accepted(found.state().check())


# --- The program -----------------------------------------------------------------------------------------------------


def written(folder: Path, found: Fake) -> Path:
    for name, data in found.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "certificate.draft.json").write_bytes(found.payload + b"\n")
    return folder / "certificate.draft.json"


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.insert(0, '.'); " + arguments[0], *arguments[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_it_runs_from_a_copied_folder_with_the_standard_library_alone(tmp_path: Path) -> None:
    copytree(FOLDER, tmp_path / "x" / "check")
    file = written(tmp_path / "out", fake(Knobs()).state())
    runs = "import runpy; sys.argv[0] = 'check'; runpy.run_module('check', run_name='__main__', alter_sys=True)"
    done = alone(tmp_path / "x", runs, str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("No signature was checked")
    assert "derived from the claims: NOT_REFUTED; stated: NOT_REFUTED" in done.stdout
    look = (
        "import check.main as m; code = m.main(sys.argv[1:]); roots = {name.split('.')[0] for name in sys.modules}; "
        "print(sorted(roots - set(sys.stdlib_module_names) - {'check', '__main__'})); sys.exit(code)"
    )
    done = alone(tmp_path / "x", look, str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_exit_codes_and_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = fake(Knobs()).state()
    file = written(tmp_path, found)
    assert main([str(file)]) == 0
    assert "rejected" not in capsys.readouterr().out
    assert main([str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["derived"], shown["accepted"], shown["signatureChecked"]) == ("NOT_REFUTED", True, False)
    assert shown["claims"][0] == {"id": "c-model", "type": "model-digest", "status": "proved"} | {
        "detail": shown["claims"][0]["detail"]
    }

    found.claim("c-eps-procedure")["right"] += 1
    file.write_bytes(found.payload)
    assert main([str(file)]) == 4
    assert "rejected    c-eps-procedure" in capsys.readouterr().out
    (tmp_path / "evidence" / "slots.jsonl").unlink()
    assert main([str(file)]) == 4
    capsys.readouterr()
    file.write_bytes(b'{"_type": 1')
    assert main([str(file), "--json"]) == 4
    assert "not JSON" in json.loads(capsys.readouterr().out)["error"]
    assert main([str(file)]) == 4
    assert "not JSON" in capsys.readouterr().err
    assert main([str(tmp_path / "gone.json")]) == 2
    assert "gone.json" in capsys.readouterr().err


def test_no_string_of_a_certificate_reaches_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = fake(Knobs())
    found.claim("m-auc")["id"] = "m\x1b[2J\n\u202eproved      c-eps"
    found.claim("c-split")["judged"] = ["\x1b]0;x\x07"]
    file = written(tmp_path, found)
    assert main([str(file)]) == 4
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == len(found.predicate["claims"]) + 3
    file.write_bytes(found.payload.replace(b'"schemaVersion":"1.0"', b'"schemaVersion":"\\u001b[2J"'))
    assert main([str(file)]) == 4
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../plan.json", "/etc/hostname", "a//b", "a\\b", "", ".", "a/../b", "a\0b"])
def test_evidence_is_read_below_its_folder_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.json").write_text("{}")
    read = evidence_reader(tmp_path / "sub")
    with pytest.raises(Rejected, match="expected a plain path"):
        read(name)


def test_a_folder_in_place_of_evidence_is_refused_and_an_absent_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(Rejected, match="cannot be read"):
        evidence_reader(tmp_path)("plan.json")
    assert evidence_reader(tmp_path)("evidence/slots.jsonl") is None
    found = fake(Knobs())
    file = written(tmp_path / "out", found)
    elsewhere = tmp_path / "elsewhere"
    copytree(tmp_path / "out" / "evidence", elsewhere / "evidence")
    (elsewhere / "plan.json").write_bytes(found.files["plan.json"])
    (tmp_path / "out" / "plan.json").unlink()
    assert check_file(file).missing == ("plan.json",)
    assert to_json(check_file(file, elsewhere))["accepted"] is True
