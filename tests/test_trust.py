"""The trust file: strict, with the line of each problem; what is not understood is never skipped."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cu_certificates import keys
from cu_certificates.envelope import GATE_TYPE, PREDICATE_TYPE
from cu_certificates.errors import CertificateError, MissingFileError, PolicyError, UsageError
from cu_certificates.trust import (
    RevocationRule,
    Threshold,
    Trust,
    TrustedKey,
    add_key,
    load_trust,
    predicates_for,
    write_trust,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("trust")
    for name in ("a", "b"):
        keys.generate_key(found / "keys" / f"{name}.pem", passphrase=None)
    return found


def keyid(folder: Path, name: str = "a") -> str:
    return keys.fingerprint(keys.load_public_key(folder / "keys" / f"{name}.pub.pem"))


def text(folder: Path) -> str:
    return f'''schema = 1
# a comment
[[key]]
keyid = "{keyid(folder)}"
public = "keys/a.pub.pem"
alg = "ecdsa-p256-sha256"
roles = ["auditor", "gate"]
predicates = ["{PREDICATE_TYPE}"]
not_before = 2026-01-01T00:00:00Z
not_after = 2027-12-31T23:59:59+01:00

[[key]]
keyid = "{keyid(folder, "b")}"
public = "keys/b.pub.pem"
alg = "ecdsa-p256-sha256"
roles = ["controller"]
predicates = ["{PREDICATE_TYPE}"]
not_before = 2026-01-01T00:00:00Z
not_after = 2027-12-31T23:59:59Z

[time]
max_age_days = 90
'''


def load(folder: Path, content: str) -> Trust:
    (folder / "trust.toml").write_text(content, encoding="utf-8")
    return load_trust(folder / "trust.toml")


def test_a_trust_file_is_read(folder: Path) -> None:
    trust = load(folder, text(folder))
    assert trust.max_age_days == 90
    first, second = trust.keys
    assert trust.find(keyid(folder)) is first
    assert trust.find(keyid(folder, "b")) is second
    assert trust.find("SHA256:other") is None
    assert first.roles == ("auditor", "gate")
    assert first.predicates == (PREDICATE_TYPE,)
    assert first.not_before == START
    assert first.not_after == datetime(2027, 12, 31, 22, 59, 59, tzinfo=UTC)
    assert keys.fingerprint(first.public) == first.keyid


def test_without_a_time_table_there_is_no_limit(folder: Path) -> None:
    assert load(folder, text(folder).split("[time]")[0]).max_age_days is None


# What is replaced, by what, and the line and words that the message must have.
SPOILED = [
    ("schema = 1", "schema = 2", 1, "schema is 2; expected schema = 1"),
    ("schema = 1", "schema = true", 1, "schema is True"),
    ("schema = 1\n", "", 1, "'absent'"),
    ("schema = 1", "schema = 1\nkeys = 3", 2, "unknown key 'keys'; the nearest valid key is 'key'"),
    ("[time]", "[thresholds]\nauditor = 1\n[time]", 21, "unknown key 'thresholds'; the nearest valid key is 'thresh"),
    ("[time]", "[threshold]\ngate = 1\n[time]", 22, "unknown key 'gate'"),
    ("[time]", "[threshold]\nauditor = 0\n[time]", 22, "auditor is 0; expected a whole number from 1 to 16"),
    ("[time]", "[threshold]\nauditor = true\n[time]", 22, "auditor is True"),
    ("[time]", "[threshold]\nauditor = 1\ncontroller = 17\n[time]", 23, "controller is 17; expected a whole number fr"),
    ("[time]", "[threshold]\nauditor = 2\n[time]", 21, "threshold asks for 2 auditor and 0 controller signatures"),
    ("[time]", "[threshold]\nauditor = 2\ncontroller = 1\n[time]", 21, "are too few; add keys, or lower it"),
    ("[time]", "threshold = 1\n[time]", 21, "unknown key 'threshold'"),
    ("[time]", "[revocation]\nlists = 'r'\n[time]", 22, "unknown key 'lists'; the nearest valid key is 'list'"),
    ("[time]", "[revocation]\nmin_sequence = 1\n[time]", 21, "[revocation] has no 'list'"),
    ("[time]", "[revocation]\nlist = 3\n[time]", 22, "list is 3; expected a string"),
    ("[time]", "[revocation]\nlist = 'r'\nmax_list_age_days = 0\n[time]", 23, "max_list_age_days is 0"),
    ("[time]", "[revocation]\nlist = 'r'\nmin_sequence = -1\n[time]", 23, "min_sequence is -1"),
    ("[time]", "[time]\nrequire_timestamp = true", 22, "require_timestamp asks for a time stamp, but tsa_roots names"),
    ("[time]", "[time]\nrequire_timestamp = 1", 22, "require_timestamp is 1; expected true or false"),
    ("[time]", "[time]\ntsa_roots = 'tsa/root.pem'", 22, "tsa_roots is 'tsa/root.pem'; expected a list of strings"),
    ("[time]", "[[identity]]\nissuer = 'https://a.example'\n[time]", 21, "[[identity]] has no 'identity'"),
    ("max_age_days", "max_age_day", 22, "unknown key 'max_age_day'; the nearest valid key is 'max_age_days'"),
    ("= 90", "= 0", 22, "max_age_days is 0"),
    ("= 90", "= true", 22, "max_age_days is True"),
    ("= 90", "= 90.0", 22, "max_age_days is 90.0"),
    ("= 90", "= 99999", 22, "max_age_days is 99999"),
    ('roles = ["controller"]', 'role = ["controller"]', 16, "unknown key 'role'; the nearest valid key is 'roles'"),
    ('roles = ["controller"]', 'roles = ["king"]', 16, "expected one or more of auditor, controller, gate"),
    ('roles = ["controller"]', "roles = []", 16, "expected a list of strings"),
    ('roles = ["controller"]', 'roles = "controller"', 16, "expected a list of strings"),
    ('roles = ["controller"]', 'roles = ["gate", "gate"]', 16, "names an entry twice"),
    ('roles = ["controller"]', "roles = [1]", 16, "expected a list of strings"),
    ('roles = ["controller"]\n', "", 12, "has no 'roles'"),
    ('"keys/b.pub.pem"', '"keys/a.pub.pem"', 13, "but the key's fingerprint is"),
    ('"keys/b.pub.pem"', "7", 14, "public is 7; expected a string"),
    ('"keys/b.pub.pem"', '""', 14, "public is ''"),
    ('"keys/b.pub.pem"', '"a\\u0000"', 14, "expected a string"),
    ("not_after = 2027-12-31T23:59:59Z", "not_after = 2025-12-31T23:59:59Z", 19, "is not later than"),
    ("not_after = 2027-12-31T23:59:59Z", "not_after = 2027-12-31T23:59:59", 19, "with its zone"),
    ("not_after = 2027-12-31T23:59:59Z", "not_after = 2027-12-31", 19, "with its zone"),
    ("not_after = 2027-12-31T23:59:59Z", 'not_after = "2027-12-31T23:59:59Z"', 19, "with its zone"),
    ("not_after = 2027-12-31T23:59:59Z", "", 12, "has no 'not_after'"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), SPOILED)
def test_a_problem_is_named_with_its_line(folder: Path, old: str, new: str, line: int, message: str) -> None:
    content = text(folder)
    assert content.count(old) == 1
    with pytest.raises(PolicyError) as caught:
        load(folder, content.replace(old, new))
    assert str(caught.value).startswith(f"{folder / 'trust.toml'}:{line}: ")
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_algorithm_is_pinned(folder: Path) -> None:
    for name in ("none", "hs256", "rsa-pkcs1v15-sha256", "ed25519", "ECDSA-P256-SHA256"):
        with pytest.raises(PolicyError, match=rf":6: alg is '{name}'; expected 'ecdsa-p256-sha256'"):
            load(folder, text(folder).replace("ecdsa-p256-sha256", name, 1))


def test_a_keyid_that_its_key_does_not_have_is_refused(folder: Path) -> None:
    right = keyid(folder)
    wrong = right[:-1] + ("A" if right[-1] != "A" else "E")
    with pytest.raises(PolicyError, match=rf":4: keyid is '.*', but the key's fingerprint is '{re.escape(right)}'"):
        load(folder, text(folder).replace(right, wrong))


def test_one_key_stands_once(folder: Path) -> None:
    twice = text(folder).replace(keyid(folder, "b"), keyid(folder)).replace("b.pub.pem", "a.pub.pem")
    with pytest.raises(PolicyError, match=r":\d+: keyid .* stands in two tables"):
        load(folder, twice)


@pytest.mark.parametrize(
    "content",
    [
        "schema = 1",
        "schema = 1\nkey = []",
        "schema = 1\nkey = 3",
        "schema = 1\n[key]\nkeyid = 'a'",
        "schema = 1\nkey = [1]",
        "schema = 1\ntime = 3\nkey = []",
    ],
)
def test_a_file_that_trusts_no_key_is_refused(folder: Path, content: str) -> None:
    with pytest.raises(PolicyError, match="no key is trusted"):
        load(folder, content)


def test_a_time_that_is_no_table_is_refused(folder: Path) -> None:
    with pytest.raises(PolicyError, match="time is no table"):
        load(folder, "time = 3\n" + text(folder).split("[time]")[0])


@pytest.mark.parametrize(
    "content",
    [b"schema = ", b"schema = 1\nschema = 1", b"\xff", b"\xef\xbb\xbfschema = 1", b"x = " + b"[" * 50_000, b"a\0 = 1"],
)
def test_what_is_not_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bad.toml").write_bytes(content)
    with pytest.raises(PolicyError, match="not TOML"):
        load_trust(folder / "bad.toml")


def test_missing_files_are_named(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"none\.toml"):
        load_trust(folder / "none.toml")
    with pytest.raises(MissingFileError, match=r"gone\.pub\.pem"):
        load(folder, text(folder).replace("a.pub.pem", "gone.pub.pem"))


# --- Writing ---------------------------------------------------------------------------------------------------------


def test_a_written_trust_file_is_read_back(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "trust.toml"
    written = write_trust(path, folder / "keys" / "a.pub.pem", not_before=START, max_age_days=30)
    assert written == load_trust(path)
    assert written.max_age_days == 30
    (key,) = written.keys
    assert (key.keyid, key.roles, key.predicates) == (keyid(folder), ("auditor",), (PREDICATE_TYPE,))
    assert (key.not_before, key.not_after) == (START, START + timedelta(days=730))
    assert str(folder) not in path.read_text()  # named relative to the trust file, so that both can move together


def test_times_are_written_in_utc_and_strange_paths_survive(tmp_path: Path) -> None:
    strange = tmp_path / 'a "quoted" \\ name\x7f \N{GREEK SMALL LETTER ALPHA}' / "k.pem"
    keys.generate_key(strange, passphrase=None)
    start = datetime(2026, 6, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    end = start + timedelta(days=1)
    written = write_trust(
        tmp_path / "trust.toml", keys.public_path_of(strange), not_before=start, not_after=end, roles=("gate",)
    )
    assert (written.keys[0].not_before, written.keys[0].not_after) == (start, end)
    assert written.keys[0].roles == ("gate",)


def test_an_existing_trust_file_is_kept_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    path, public = tmp_path / "trust.toml", folder / "keys" / "a.pub.pem"
    path.write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        write_trust(path, public, not_before=START)
    assert path.read_text() == "precious"
    assert write_trust(path, public, not_before=START, replace=True) == load_trust(path)
    assert [found.name for found in tmp_path.iterdir()] == ["trust.toml"]


@pytest.mark.parametrize(
    "spoiled",
    [
        {"not_before": datetime(2026, 1, 1)},  # without a zone
        {"not_after": START},
        {"roles": ()},
        {"roles": ("king",)},
        {"predicates": ()},
        {"max_age_days": 0},
    ],
)
def test_a_file_that_could_not_be_read_back_is_not_written(
    folder: Path, tmp_path: Path, spoiled: dict[str, object]
) -> None:
    arguments = {"not_before": START} | spoiled
    with pytest.raises(PolicyError):
        write_trust(tmp_path / "trust.toml", folder / "keys" / "a.pub.pem", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "trust.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_trust(tmp_path / "trust.toml", folder / "keys" / "a.pub.pem", not_before=START, replace=True)
    assert [found.name for found in tmp_path.iterdir()] == ["trust.toml"]


def test_trusted_keys_check_themselves(folder: Path) -> None:
    key = load(folder, text(folder)).keys[0]
    with pytest.raises(CertificateError, match="no key is trusted"):
        Trust(path=folder, keys=())
    with pytest.raises(CertificateError, match="fingerprint"):
        TrustedKey(
            keyid="SHA256:other",
            public=key.public,
            algorithm=key.algorithm,
            roles=key.roles,
            predicates=key.predicates,
            not_before=key.not_before,
            not_after=key.not_after,
        )


def test_the_algorithm_must_be_that_of_the_key(folder: Path) -> None:
    keys.generate_key(folder / "keys" / "e.pem", passphrase=None, algorithm="ed25519")
    edwards = text(folder).replace(keyid(folder), keyid(folder, "e")).replace("a.pub.pem", "e.pub.pem")
    with pytest.raises(PolicyError, match=r":6: alg is 'ecdsa-p256-sha256'; expected 'ed25519', which this key signs"):
        load(folder, edwards)
    right = edwards.replace("ecdsa-p256-sha256", "ed25519", 1)
    assert load(folder, right).keys[0].algorithm == "ed25519"


def test_one_key_signs_audits_or_decisions_and_never_both(folder: Path) -> None:
    both = text(folder).replace(f'["{PREDICATE_TYPE}"]', f'["{PREDICATE_TYPE}", "{GATE_TYPE}"]', 1)
    with pytest.raises(PolicyError, match=r":8: predicates lets one key sign both audits and gate decisions"):
        load(folder, both)


# --- The other tables ------------------------------------------------------------------------------------------------

IDENTITY = f'''
[[identity]]
issuer = "https://token.actions.githubusercontent.com"
identity = "https://github.com/example/repo/.github/workflows/gate.yml@refs/heads/main"
roles = ["gate"]
predicates = ["{GATE_TYPE}"]
'''


def test_every_table_is_read(folder: Path) -> None:
    (folder / "tsa").mkdir(exist_ok=True)
    (folder / "tsa" / "root.pem").write_text("a root certificate")
    rules = """
[threshold]
auditor = 1
controller = 1
[revocation]
list = "lists/revoked.sigstore.json"
max_list_age_days = 30
min_sequence = 4
"""
    time = '[time]\nrequire_timestamp = true\ntsa_roots = ["tsa/root.pem"]\n'
    trust = load(folder, text(folder).replace("[time]\n", time) + rules + IDENTITY)
    assert trust.threshold == Threshold(auditor=1, controller=1)
    assert trust.require_timestamp
    assert trust.tsa_roots == (folder / "tsa" / "root.pem",)
    assert trust.revocation == RevocationRule(
        list=folder / "lists" / "revoked.sigstore.json", max_age_days=30, min_sequence=4
    )
    (identity,) = trust.identities
    assert identity.issuer == "https://token.actions.githubusercontent.com"
    assert (identity.roles, identity.predicates) == (("gate",), (GATE_TYPE,))


def test_what_no_table_says_is_not_asked(folder: Path) -> None:
    trust = load(folder, text(folder))
    assert trust.threshold == Threshold(auditor=1, controller=0)
    assert (trust.require_timestamp, trust.tsa_roots, trust.revocation, trust.identities) == (False, (), None, ())


def test_a_file_may_trust_identities_alone(folder: Path) -> None:
    trust = load(folder, "schema = 1\n" + IDENTITY)
    assert trust.keys == ()
    assert trust.find(keyid(folder)) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('issuer = "https://token.actions.githubusercontent.com"', 'issuer = ""', 4, "issuer is ''; expected a string"),
        ('issuer = "https://token.actions.githubusercontent.com"', 'issuer = " "', 4, "issuer is empty"),
        ("issuer", "issuers", 4, "unknown key 'issuers'; the nearest valid key is 'issuer'"),
        ('roles = ["gate"]', 'roles = ["bot"]', 6, "expected one or more of auditor"),
        ('roles = ["gate"]', "", 3, "[[identity]] has no 'roles'"),
        ("predicates = [", f'predicates = ["{PREDICATE_TYPE}", ', 7, "give the gate a key of its own"),
    ],
)
def test_a_problem_of_an_identity_is_named_with_its_line(
    folder: Path, old: str, new: str, line: int, message: str
) -> None:
    content = "schema = 1\n" + IDENTITY
    assert content.count(old) == 1
    with pytest.raises(PolicyError) as caught:
        load(folder, content.replace(old, new))
    assert str(caught.value).startswith(f"{folder / 'trust.toml'}:{line}: ")
    assert message in str(caught.value)


def test_an_identity_stands_once(folder: Path) -> None:
    with pytest.raises(PolicyError, match=r":11: identity .* stands in two tables \[\[identity\]\]"):
        load(folder, "schema = 1\n" + IDENTITY + IDENTITY)


def test_a_root_certificate_must_be_there(folder: Path) -> None:
    with pytest.raises(MissingFileError, match=r"trust\.toml:22: tsa_roots names .*none\.pem', which is no file"):
        load(folder, text(folder).replace("[time]", "[time]\ntsa_roots = ['none.pem']"))


# --- Adding a key ----------------------------------------------------------------------------------------------------


def test_a_key_is_added_and_every_line_is_kept(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    write_trust(path, folder / "keys" / "a.pub.pem", not_before=START, max_age_days=30)
    path.write_text(path.read_text() + "# a remark of the reader's, without a line end")
    path.chmod(0o640)
    before = path.read_text()
    added = add_key(
        path, folder / "keys" / "b.pub.pem", not_before=START, roles=("gate",), predicates=predicates_for(("gate",))
    )
    trust = load_trust(path)
    assert path.read_text().startswith(before + "\n\n[[key]]\n")
    assert trust.keys[1] == added
    assert (added.roles, added.predicates) == (("gate",), (GATE_TYPE,))
    assert trust.max_age_days == 30
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_key_that_cannot_be_added_leaves_the_file_as_it_was(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    write_trust(path, folder / "keys" / "a.pub.pem", not_before=START)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="lists key"):
        add_key(path, folder / "keys" / "a.pub.pem", not_before=START)
    with pytest.raises(PolicyError, match="not later than"):
        add_key(path, folder / "keys" / "b.pub.pem", not_before=START, not_after=START)
    with pytest.raises(MissingFileError):
        add_key(path, folder / "keys" / "none.pub.pem", not_before=START)
    path.write_bytes(b"schema = 1\nkey = [" + b"{}]")
    with pytest.raises(PolicyError, match="has no 'keyid'"):
        add_key(path, folder / "keys" / "b.pub.pem", not_before=START)
    path.write_bytes(before)
    assert [found.name for found in tmp_path.iterdir()] == ["trust.toml"]
    assert path.read_bytes() == before
