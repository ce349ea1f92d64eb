"""Provenance end to end: an exact method's certificate is accepted, by the checker, by verify and by the gate."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_certificate import Fake
from fake_evidence import LEAK, Json, Knobs, digest
from fake_provenance import REPLAY, Story, exact, old_checkpoint, still_there, unlike

from cu_certificates import keys
from cu_certificates.check.main import accepted
from cu_certificates.envelope import sign
from cu_certificates.errors import UntrustedError
from cu_certificates.gate import run_gate
from cu_certificates.policy import load_policy
from cu_certificates.trust import load_trust, write_trust
from cu_certificates.verify import verify

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def outcome(found: Fake) -> tuple[str, str]:
    result = found.state().check()
    assert accepted(result), [claim for claim in result.claims if claim.status == "rejected"]
    return result.derived, "; ".join(result.reasons)


# --- The verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "story",
    [
        Story(),
        Story(form="neighbours"),
        Story(replay=REPLAY, slices=20),
        Story(first=True),
        Story(shards=1, slices=1, level="EXACT_IN_LAW"),
        Story(claims=("chain", "absent")),
        Story(knobs=Knobs()),
    ],
    ids=["leaves", "neighbours", "replay", "no chain before", "one shard", "no replay", "both questions"],
)
def test_exact_by_provenance(story: Story) -> None:
    verdict, reasons = outcome(exact(story))
    assert verdict == "EXACT_BY_PROVENANCE"
    assert "the shards' states form one chain that ends in the audited model" in reasons
    assert "no commitment of the request lies in a manifest of the chain" in reasons
    assert ("replay agree bit for bit" in reasons) is (story.replay is not None)


def test_statuses() -> None:
    for form, status in (("leaves", "proved"), ("neighbours", "assumed")):
        result = exact(form=form).check()
        found = {claim.type: (claim.status, claim.detail) for claim in result.claims}
        assert found["absent"][0] == status
        assert ("A15" in found["absent"][1]) is (form == "neighbours")
        assert found["chain"] == ("assumed", "one chain (shards: 4, trained anew: 2, records fewer: 5)")
        assert found["replay"] == ("replayed", "8 of 8 drawn steps, of 8, came out bit for bit the same")
        assert found["receipt"] == ("proved", "5 different commitments, sorted, have the request's root")


@pytest.mark.parametrize(
    ("claims", "replay", "verdict"),
    [
        (("chain",), None, "NOT_REFUTED"),
        (("absent",), None, "NOT_REFUTED"),
        (("receipt", "chain", "replay"), None, "NOT_REFUTED"),
        (("receipt",), None, "NOT_REFUTED"),
        (("chain", "absent"), REPLAY, "INCONCLUSIVE"),
        ((), REPLAY, "INCONCLUSIVE"),
    ],
)
def test_a_part_that_is_missing_leaves_the_statistical_verdict(
    claims: tuple[str, ...], replay: Json | None, verdict: str
) -> None:
    found, reasons = outcome(exact(claims=claims, replay=replay))
    assert found == verdict
    assert ("replay: planned, but no steps were run again" in reasons) is (replay is not None)


def test_a_statistical_refutation_outweighs_provenance() -> None:
    verdict, reasons = outcome(exact(knobs=Knobs(means=LEAK)))
    assert verdict == "REFUTED"
    assert "exceeds the guarantee under test" in reasons


def test_gaps_of_the_tests_are_printed_beside_exactness() -> None:
    found = exact()
    found.drop("c-power-artifact")
    del found.predicate["plots"]
    verdict, reasons = outcome(found)
    assert verdict == "EXACT_BY_PROVENANCE"
    assert "beside it: artifact: its size does not reach the planned power" in reasons


@pytest.mark.parametrize("form", ["leaves", "neighbours"])
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (still_there, "c-absent: commitments of the request that lie in a manifest: 1"),
        (unlike, "c-replay: 2 of 8 steps gave another checkpoint when they were run again"),
        (old_checkpoint, "c-chain: shard 0 is said to have been trained anew, but its checkpoint is an earlier one"),
    ],
)
def test_what_speaks_against_exactness_refutes_it_and_only_informs_beside_other_methods(
    edit: Any, reason: str, form: str
) -> None:
    assert outcome(exact(edit=edit, form=form)) == ("REFUTED", reason)
    verdict, reasons = outcome(exact(edit=edit, form=form, guarantee="none", level="EMPIRICAL"))
    assert verdict == "NOT_REFUTED"
    assert reason not in reasons


def test_an_absent_file_leaves_everything_open() -> None:
    for name in ("commitments", "chain", "absent", "replay"):
        found = exact(replay=REPLAY).state()
        del found.files[f"evidence/{name}.jsonl"]
        result = found.check()
        assert result.derived == "INCONCLUSIVE"
        assert result.missing == (f"evidence/{name}.jsonl",)
        assert not accepted(result)


# --- Through verify and gate -----------------------------------------------------------------------------------------


def signed(found: Fake, folder: Path) -> Path:
    """Write a certificate and what a reader needs as its signer hands it on; returns the bundle."""
    key = folder / "audit.pem"
    found.predicate["auditor"]["keyid"] = keys.generate_key(key, passphrase=None).keyid
    for name, data in found.state().files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    write_trust(folder / "trust.toml", keys.public_path_of(key), not_before=datetime(2026, 1, 1, tzinfo=UTC))
    bundle = folder / "certificate.sigstore.json"
    bundle.write_bytes(sign(found.payload, keys.load_private_key(key)))
    return bundle


def write_policy(folder: Path, verdict: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(f'schema = 1\n[policy.require]\nverdict = ["{verdict}"]\n')
    return path


@pytest.mark.parametrize(
    ("story", "verdict"),
    [
        (Story(replay=REPLAY, slices=20, knobs=Knobs()), "EXACT_BY_PROVENANCE"),
        (Story(form="neighbours"), "EXACT_BY_PROVENANCE"),
        (Story(edit=unlike), "REFUTED"),
        (Story(claims=("chain",), replay=REPLAY), "INCONCLUSIVE"),
        (Story(claims=("chain",)), "NOT_REFUTED"),
    ],
    ids=["exact, replayed", "exact, neighbours", "refuted", "inconclusive", "not refuted"],
)
def test_verify_and_gate(story: Story, verdict: str, tmp_path: Path) -> None:
    bundle = signed(exact(story), tmp_path)
    certificate = verify(bundle, trust=load_trust(tmp_path / "trust.toml"), now=NOW)
    assert certificate.verdict == certificate.check.stated == verdict
    for accepts in (verdict, "NOT_REFUTED", "EXACT_BY_PROVENANCE"):
        if accepts not in ("REFUTED", "INCONCLUSIVE"):
            report = run_gate(
                bundle,
                policy=load_policy(write_policy(tmp_path, accepts)),
                trust=tmp_path / "trust.toml",
                model_digest=digest("file"),
                now=NOW,
            )
            wanted = {accepts: 0, "INCONCLUSIVE": 3}.get(verdict, 1)
            assert report.exit_code == wanted, report.findings


def test_verify_refuses_a_certificate_that_states_exactness_without_grounds(tmp_path: Path) -> None:
    bundle = signed(exact(claims=("chain",)), tmp_path)
    found = exact(claims=("chain",))
    found.predicate["auditor"]["keyid"] = keys.load_private_key(tmp_path / "audit.pem").keyid
    found.state().predicate["verdict"]["value"] = "EXACT_BY_PROVENANCE"
    bundle.write_bytes(sign(found.payload, keys.load_private_key(tmp_path / "audit.pem")))
    with pytest.raises(UntrustedError, match="states EXACT_BY_PROVENANCE, but NOT_REFUTED follows"):
        verify(bundle, trust=load_trust(tmp_path / "trust.toml"), now=NOW)
    report = run_gate(
        bundle,
        policy=load_policy(write_policy(tmp_path, "EXACT_BY_PROVENANCE")),
        trust=tmp_path / "trust.toml",
        model_digest=digest("file"),
        now=NOW,
    )
    assert report.exit_code == 4
