"""Text: features of a text against a slow second computation, JSON lines, texts in tables, and what is refused."""

import contextlib
import gzip
import hashlib
import json
import math
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import TRAIN, refused

from cu_cert.cli.main import run
from cu_cert.data import DataConfig, load_records
from cu_cert.data._guess import guess
from cu_cert.data._text import PIECE, TextReader, mix, unit_hash, words_of
from cu_cert.data._text_options import TextFeatures, text_features
from cu_cert.data.text_lines import MOST_LINE, read_lines
from cu_cert.errors import ConfigError, DataError
from cu_cert.project import load_project
from cu_cert.records import Records

CONFIG = DataConfig(
    source="d.jsonl", id_column="id", label_column="label", text_column="text", text_buckets=16, holdout="1/3"
)
TEXTS = ("A fine film!", "I'd leave early.", "Fine, fine; leave me the film...", "früh – ein FILM")


def rows(count: int = 12) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "label": "np"[n % 2], "text": f"{TEXTS[n % 4]} {n}", "stars": n} for n in range(count)]


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def load(folder: Path, content: bytes, config: DataConfig = CONFIG) -> Records:
    (folder / config.path).write_bytes(content)
    return load_records(config, folder).records


# what a text means ----------------------------------------------------------------------------------------------------

M = 2**64


def naive_mix(value: int) -> int:
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % M
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % M
    return value ^ (value >> 31)


def naive_words(text: str) -> list[str]:
    found = []
    for whole in text.split():
        for start in range(0, len(whole), 1024):
            piece = unicodedata.normalize("NFKC", whole[start : start + 1024])
            word = ""
            for letter in unicodedata.normalize("NFKC", piece.casefold()) + " ":
                kind = unicodedata.category(letter)
                if kind[0] in "LMN":
                    word += letter
                elif kind != "Cf":
                    found += [word] if word else []
                    word = ""
    return found


def naive_hash(units: list[str]) -> int:
    found = 0
    for position, unit in enumerate(units):
        raw = unit.encode("utf-8", "surrogatepass")
        own = hashlib.blake2b(raw, digest_size=8, person=b"cu-cert/text/1")
        value = int.from_bytes(own.digest(), "little")
        found = naive_mix((found * 0x9E3779B97F4A7C15 + value) % M) if position else value
    return found


def naive_bag(text: str, kind: str, low: int, high: int, buckets: int) -> list[float]:
    words = naive_words(text)
    units = words if kind == "words" else list(f" {' '.join(words)} ")
    sums = [0] * buckets
    for size in range(low, high + 1):
        for start in range(len(units) - size + 1):
            run_hash = naive_hash(units[start : start + size])
            sums[run_hash % buckets] += -1 if run_hash >> 63 else 1
    total = sum(abs(value) for value in sums)
    return [math.copysign(math.sqrt(abs(value) / total), value) if value else 0.0 for value in sums]


texts = st.lists(st.text(max_size=40), min_size=1, max_size=5)


@given(texts, st.sampled_from(["words", "characters"]), st.integers(1, 4), st.integers(0, 3), st.integers(2, 40))
@settings(max_examples=80)
def test_bags_are_what_a_second_computation_says(
    found: list[str], kind: str, low: int, more: int, buckets: int
) -> None:
    high = min(low + more, 4 if kind == "words" else 8)
    features = TextReader(text_features(kind, (low, high), buckets, None)).read(found)
    expected = [naive_bag(text, kind, low, high, buckets) for text in found]
    assert np.array_equal(features, np.array(expected, dtype=np.float32))


@given(texts, st.integers(2, 2**20), st.integers(1, 12))
def test_tokens_are_what_a_second_computation_says(found: list[str], buckets: int, length: int) -> None:
    features = TextReader(text_features("tokens", None, buckets, length)).read(found)
    for row, text in zip(features, found, strict=True):
        ids = [1 + naive_hash([word]) % buckets for word in naive_words(text)][:length]
        assert row.tolist() == ids + [0] * (length - len(ids))


@given(st.lists(st.text(max_size=30), min_size=2, max_size=6), st.sampled_from(["words", "characters", "tokens"]))
def test_a_text_has_the_same_features_whatever_stands_beside_it(found: list[str], kind: str) -> None:
    features = text_features(kind, None, 32, 8 if kind == "tokens" else None)
    together = TextReader(features).read(found)
    alone = np.concatenate([TextReader(features).read([text]) for text in found])
    assert np.array_equal(together, alone)
    assert np.array_equal(TextReader(features).read(found[::-1]), together[::-1])


def test_these_numbers_never_change() -> None:
    # A change here changes every data digest: it needs a new VERSION and a line in the change log.
    assert unit_hash("film") == 0xE8EE423A2CBED15E
    assert list(words_of("Straße ﬁne ①")) == ["strasse", "fine", "1"]
    assert int(mix(np.array([1], dtype=np.uint64))[0]) == naive_mix(1)
    bag = TextReader(text_features("words", (1, 2), 8, None)).read(["a fine film"])[0]
    assert [round(float(value), 4) for value in bag] == [0.5774, 0.0, 0.0, 0.0, 0.0, 0.5774, -0.5774, 0.0]
    tokens = TextReader(text_features("tokens", None, None, 4)).read(["a fine film"])[0]
    assert tokens.tolist() == [3847.0, 3393.0, 351.0, 0.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't STOP", ["don", "t", "stop"]),
        ("so<br />good_bad", ["so", "br", "good", "bad"]),
        ("e\u0301te\u0301 \u00e9t\u00e9", ["\u00e9t\u00e9", "\u00e9t\u00e9"]),  # one word, composed or not
        ("co\u00adoperate \u200bx", ["cooperate", "x"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # marks belong to words
        ("ＦＵＬＬ ²", ["full", "2"]),
        ("\ud800half", ["half"]),
        ("😀 !?", []),
        ("", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


def test_a_run_without_spaces_is_cut_and_not_normalised_for_hours() -> None:
    marks = "\u0300\u0316" * 200_000  # sorting them is quadratic
    assert sum(len(word) for word in words_of("q" + marks)) == 1 + len(marks)
    assert [len(word) for word in words_of("y" * (2 * PIECE + 5))] == [PIECE, PIECE, 5]


def test_what_was_seen_is_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cu_cert.data._text._CACHED_PIECES", 4)
    reader = TextReader(text_features("tokens", None, None, 4))
    found = [f"w{n}" for n in range(50)]
    assert np.array_equal(reader.read(found), TextReader(text_features("tokens", None, None, 4)).read(found))
    assert len(reader._known) <= 4


# JSON lines -----------------------------------------------------------------------------------------------------------


def test_json_lines_csv_and_parquet_mean_the_same(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pa = pytest.importorskip("pyarrow")
    first = load(tmp_path, lines(rows()))
    table = "id,label,text\n" + "".join(f'{row["id"]},{row["label"]},"{row["text"]}"\n' for row in rows())
    second = load(tmp_path, table.encode(), replace(CONFIG, source="d.csv"))
    pq.write_table(pa.Table.from_pylist(rows()), tmp_path / "d.parquet")
    third = load_records(replace(CONFIG, source="d.parquet"), tmp_path).records
    zipped = load(tmp_path, gzip.compress(lines(rows())), replace(CONFIG, source="d.jsonl.gz"))
    assert first.digest == second.digest == third.digest == zipped.digest
    assert first.x.shape == (12, 16)
    assert np.allclose((first.x**2).sum(axis=1), 1)


@given(st.permutations(range(12)))
@settings(max_examples=10)
def test_the_order_of_lines_and_of_fields_means_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    content = replace(CONFIG, id_column=None, ids="content")
    for config in (CONFIG, content):
        first = load(folder, lines(rows()), config)
        turned = [dict(reversed(rows()[n].items())) for n in order]
        assert load(folder, lines(turned), config).digest == first.digest


def test_removing_a_record_changes_no_other(tmp_path: Path) -> None:
    whole = load(tmp_path, lines(rows()))
    rest = load(tmp_path, lines([row for row in rows() if row["id"] != "r3"]))
    assert rest.digest == whole.without(["r3"]).digest


def test_other_fields_may_hold_anything_and_numbers_stand_as_written(tmp_path: Path) -> None:
    content = b"".join(
        b"\xef\xbb\xbf" * (n == 0)
        + b'{"id": 1%02d, "label": %d, "text": "nan", "more": [{"a": {}}], "x": %s}\r\n\n' % (n, n % 2, b"1" * 5000)
        for n in range(9)
    )
    records = load(tmp_path, content)
    assert records.ids[0] == "100"
    assert records.classes == ("0", "1")
    assert (records.x != 0).any(axis=1).all()  # "nan" is a text, not a gap
    half = load(tmp_path, lines(rows()), replace(CONFIG, numeric=("stars",)))
    assert half.x.shape == (12, 17)
    assert half.x[:, 0].max() == 11


def test_gaps(tmp_path: Path) -> None:
    gappy = [row | {"text": None} if row["id"] == "r2" else row for row in rows()]
    for missing in (None, "", "  "):
        content = lines([row | {"text": missing} if row["id"] == "r2" else row for row in rows()])
        with pytest.raises(DataError, match=r"d\.jsonl:3: id 'r2' has no value in column 'text'"):
            load(tmp_path, content)
    found = load(tmp_path, lines(gappy), replace(CONFIG, missing=("?",)))
    assert found.x.shape == (12, 17)
    assert found.select(["r2"]).x[0].tolist() == [0.0] * 16 + [1.0]
    assert found.x[:, 16].sum() == 1
    tokens = replace(CONFIG, missing=("?",), text="tokens", text_length=5)
    assert load(tmp_path, lines(gappy), tokens).select(["r2"]).x.tolist() == [[0.0] * 5]


def test_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines([row | {"id": f"train/{row['id']}"} for row in rows()]))
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines([row | {"id": f"test/{row['id']}"} for row in rows()])))
    (folder / "README.md").write_text("what this is")
    found = guess(folder, tmp_path)
    assert (found.config.source, found.config.holdout) == ("jsonl:parts", "test/")
    data = load_records(found.config, tmp_path)
    assert (len(data.train), len(data.held_out)) == (12, 12)
    (folder / "b.jsonl.gz").write_bytes((folder / "a.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"b\.jsonl\.gz:1: id 'train/r0' stands twice \(first on line 1\)"):
        load_records(found.config, tmp_path)


DEEP = b'{"id": "a", "label": "n", "text": "t", "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
GOOD = lines(rows())
BAD = {
    "a list": (b"[1]\n", r":1: holds a list; expected a JSON object on every line"),
    "a word": (GOOD + b'"x"\n', r":13: holds a single value"),
    "a whole array": (b'[\n{"id": 1},\n', r":1: is not JSON .*looks like one JSON array: write one object a line"),
    "no json": (GOOD + b"{'id': 1}\n", r":13: is not JSON \(.*column 2\)"),
    "two objects": (GOOD.replace(b"\n", b" ", 1), r":1: is not JSON \(Extra data"),
    "a field twice": (b'{"id": "a", "id": "b"}\n', r":1: field 'id' stands twice in one object"),
    "twice inside": (b'{"id": "a", "m": {"k": 1, "k": 2}}\n', r":1: field 'k' stands twice"),
    "nan": (b'{"id": "a", "x": NaN}\n', r":1: NaN is no JSON; write null"),
    "deep": (GOOD + DEEP, r":13: lists or objects lie too deep in one another"),
    "not utf-8": (GOOD + b'{"id": "\xff"}\n', r":13: byte 8 of the line is not UTF-8"),
    "utf-16": ("{}".encode("utf-16"), r":1: byte 0 of the line is not UTF-8"),
    "nul": (b'{"id": "a\0"}\n', r":1: is not JSON \(Invalid control character"),
    "half a character": (
        GOOD + b'{"id": "\\ud800", "label": "n", "text": "t"}\n',
        r":13: field 'id' holds half a char",
    ),
    "no field": (b'{"id": "a", "lable": "n", "text": "t"}\n', r":1: has no column 'label'; did you mean 'lable'\?"),
    "no id": (GOOD + b'{"label": "n", "text": "t"}\n', r":13: no id in column 'id'"),
    "no label": (GOOD + b'{"id": "a", "text": "t"}\n', r":13: id 'a' has no value in column 'label'"),
    "a list as text": (GOOD + b'{"id": "a", "label": "n", "text": ["t"]}\n', r":13: field 'text' holds a list"),
    "the id twice": (GOOD + GOOD[:60], r":13: (is not JSON|id 'r0' stands twice)"),
    "nothing": (b"\n\n", r"has no row; expected at least one record"),
    "many fields": (json.dumps({f"k{n}": n for n in range(5000)}).encode(), r":1: an object has 5000 fields"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(DataError, match=message):
        load(tmp_path, content)


def test_lines_are_bounded_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=rf":1: is longer than {MOST_LINE} bytes; expected one record a line"):
        load(tmp_path, b'{"id": "' + b"x" * MOST_LINE + b'"}')
    bomb = gzip.compress(b"\n" * 100 + b" " * (MOST_LINE + 10))
    with pytest.raises(DataError, match=rf":101: is longer than {MOST_LINE}"):
        load(tmp_path, bomb)
    monkeypatch.setattr("cu_cert.data.text_lines.MOST_BYTES", 300)
    with pytest.raises(DataError, match=r"d\.jsonl:\d+: more than 0 GiB of text"):
        load(tmp_path, GOOD)


def test_features_that_would_not_fit_are_refused_before_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cu_cert.data._limits.MOST_BYTES", 12 * 1024 * 4 - 1)
    monkeypatch.setattr(TextReader, "read", lambda *_: pytest.fail("was made"))
    with pytest.raises(DataError, match=r"d\.jsonl: its records would take .* expected at most"):
        load(tmp_path, GOOD, replace(CONFIG, text_buckets=1024))


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    config = replace(CONFIG, source="d.jsonl.gz")
    packed = gzip.compress(GOOD)
    for damaged in (packed[:-9], packed[:40] + b"\xff" * 9 + packed[49:], b"\x1f\x8bjunk"):
        with pytest.raises(DataError, match=r"d\.jsonl\.gz.*(damaged one|not UTF-8|is not JSON)"):
            load(tmp_path, damaged, config)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 700))
@settings(max_examples=60)
def test_a_damaged_file_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    with contextlib.suppress(DataError):  # any other error would fail the test, and so would a warning
        load(folder, GOOD[:at] + noise + GOOD[at + len(noise) :])


def test_reading_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_bytes(GOOD + b"{")
    found = read_lines(tmp_path / "d.jsonl")
    assert [next(found).number for _ in range(12)] == list(range(1, 13))


# options --------------------------------------------------------------------------------------------------------------

WRONG = {
    "kind": ({"text": "tfidf"}, r'\[data\] text = "tfidf"; expected "words", "characters" or "tokens"'),
    "order": ({"ngrams": (2, 1)}, r"\[data\] ngrams = \[2, 1\]; expected two whole numbers from 1 to 4"),
    "long runs": ({"ngrams": (1, 9)}, r"ngrams = \[1, 9\]"),
    "one bucket": ({"text_buckets": 1}, r"\[data\] text_buckets = 1; expected 2 to 65536"),
    "absurd size": ({"text_buckets": 2**17}, r"text_buckets = 131072; expected 2 to 65536"),
    "absurd tokens": ({"text": "tokens", "text_buckets": 2**21}, r"text_buckets = 2097152; expected 2 to 1048576"),
    "length": ({"text": "tokens", "text_length": 0}, r"text_length = 0; expected 1 to 4096"),
    "length of a bag": ({"text_length": 9}, r'text_length = 9; expected no text_length: text = "words" is a bag'),
    "runs of tokens": ({"text": "tokens", "ngrams": (1, 2)}, r"\[data\] ngrams = \[1, 2\]; expected no ngrams"),
    "tokens and numbers": ({"text": "tokens", "numeric": ("stars",)}, r"\[data\] numeric = .*which stand alone"),
    "two roles": ({"text_column": "id"}, r'\[data\] text_column = "id"; expected a column that has no other role'),
    "no column": ({"text_column": None}, r"\[data\] text_buckets = 16; expected no text_buckets: text_column names no"),
    "another source": ({"source": "d.npz", "ids": None}, r"\[data\] \w+ = .*the source is not a \.csv file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name: str) -> None:
    change, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)


def test_what_is_usual() -> None:
    assert replace(CONFIG, text_buckets=None).text_features == TextFeatures(
        kind="words", ngrams=(1, 1), buckets=2048, length=64
    )
    tokens = replace(CONFIG, text_buckets=None, text="tokens").text_features
    assert tokens is not None
    assert (tokens.width, tokens.buckets) == (64, 4096)


def test_the_page_states_the_defaults() -> None:
    page = (Path(__file__).parent.parent / "docs" / "text.md").read_text(encoding="utf-8")
    for kind in ("words", "characters", "tokens"):
        found = text_features(kind, None, None, None)
        line = next(line for line in page.splitlines() if line.startswith(f'| `"{kind}"`'))
        wanted = f"text_length = {found.length}" if kind == "tokens" else f"ngrams = {list(found.ngrams)}"
        assert f"`{wanted}`" in line
        assert f"`text_buckets = {found.buckets}`" in line


# through the command line ---------------------------------------------------------------------------------------------


def test_init_guesses_and_train_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [row | {"text": f"{row['text']} a few words more", "tags": [1]} for row in rows(60)]
    (tmp_path / "reviews.jsonl").write_bytes(lines(made))
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--data", "reviews.jsonl"]) == 0
    told = capsys.readouterr().out
    assert "source = reviews.jsonl: 60 rows, 5 columns" in told
    assert "text_column = text: every row has a text of its own" in told
    assert "tags is left out: it holds lists or objects" in told
    assert "stars is left out: a text is learned from alone" in told
    data = load_project(tmp_path / "cu-cert.toml").data
    assert (data.id_column, data.label_column, data.text_column) == ("id", "label", "text")
    assert (data.numeric, data.categorical) == ((), ())
    assert run(["train", "-o", "model.pt"]) == 0


def test_a_text_is_never_guessed_to_be_an_id(tmp_path: Path) -> None:
    made = [{"label": row["label"], "text": f"{row['text']} and more"} for row in rows(40)]
    (tmp_path / "d.jsonl").write_bytes(lines(made))
    found = guess(tmp_path / "d.jsonl", tmp_path).config
    assert (found.id_column, found.ids, found.text_column) == (None, "content", "text")
    (tmp_path / "d.csv").write_text("label,review\n" + "".join(f'{row["label"]},"{row["text"]}"\n' for row in made))
    assert guess(tmp_path / "d.csv", tmp_path).config.text_column == "review"


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("none.jsonl", "", "none.jsonl: cannot be read (No such file or directory); expected JSON lines"),
        ("empty.jsonl", "", "empty.jsonl: is a folder without a file that ends in .jsonl"),
        ("d.jsonl", 'text = "bag"', 'cu-cert.toml:7: [data] text = "bag"; expected "words", "characters" or "tokens"'),
        ("d.jsonl", "ngrams = [2]", "ngrams = [2]; expected the fewest and the most units of a run, such as [1, 2]"),
        ("bad.jsonl", "", "bad.jsonl:1: is not JSON"),
    ],
)
def test_train_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    more: str,
    message: str,
) -> None:
    (tmp_path / "d.jsonl").write_bytes(GOOD)
    (tmp_path / "bad.jsonl").write_bytes(b"id,text\n")
    (tmp_path / "empty.jsonl").mkdir()
    text = f'id_column = "id"\nlabel_column = "label"\ntext_column = "text"\n{more}'
    (tmp_path / "cu-cert.toml").write_text(f'schema = 1\n[data]\nsource = "{source}"\n{text}\n')
    monkeypatch.chdir(tmp_path)
    assert message in refused(TRAIN, tmp_path, capsys)


# real data ------------------------------------------------------------------------------------------------------------


def test_imdb4k_as_it_lies_there(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "imdb4k"
    if not folder.is_dir():
        pytest.skip("CU_CERT_DATA holds no imdb4k")
    found = guess(folder, tmp_path).config
    assert (found.id_column, found.label_column, found.text_column) == ("id", "label", "text")
    assert found.holdout == "test/"
    data = load_records(found, tmp_path)
    assert (len(data.train), len(data.held_out)) == (4000, 1000)
    # A second learner: hashed words carry the label.
    from sklearn.linear_model import LogisticRegression

    judge = LogisticRegression(C=3, max_iter=200).fit(data.train.x, data.train.y)
    assert judge.score(data.held_out.x, data.held_out.y) > 0.8
