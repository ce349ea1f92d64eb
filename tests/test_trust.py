"""The trust file: strict, with the line of each problem; what is not understood is never skipped."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from cu_certificates import keys
from cu_certificates.envelope import PREDICATE_TYPE
from cu_certificates.errors import CertificateError, MissingFileError, PolicyError, UsageError
from cu_certificates.trust import Trust, TrustedKey, load_trust, write_trust

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
    ("[time]", "[threshold]\nauditor = 1\n[time]", 21, "unknown key 'threshold'"),
    ("[time]", "[revocation]\nlist = 'r'\n[time]", 21, "unknown key 'revocation'"),
    ("[time]", "[time]\nrequire_timestamp = false", 22, "unknown key 'require_timestamp'"),
    ("[time]", "[time]\ntsa_roots = ['tsa/root.pem']", 22, "unknown key 'tsa_roots'"),
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
