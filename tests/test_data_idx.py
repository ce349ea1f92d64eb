"""idx files: what they load, what they refuse, and what becomes of ids when records go."""

import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import TRAIN, refused

from cu_cert.cli.main import run
from cu_cert.data import DataConfig, load_records
from cu_cert.data._guess import guess
from cu_cert.data.idx import read_idx
from cu_cert.errors import DataError
from cu_cert.project import load_project

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
CONFIG = DataConfig(source=IMAGES, ids="content", holdout="1/3")
CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}

Array = npt.NDArray[np.generic]


def packed(values: Array, code: str = "u1") -> bytes:
    """The format as its authors describe it, written once more and by hand."""
    head = bytes([0, 0, CODES[code], values.ndim]) + b"".join(struct.pack(">I", side) for side in values.shape)
    kind = {"u1": ">B", "i1": ">b", ">i2": ">h", ">i4": ">i", ">f4": ">f", ">f8": ">d"}[code]
    return head + b"".join(struct.pack(kind, value) for value in values.ravel().tolist())


def sample(count: int = 30, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 4, 5)), np.arange(count) % 3


def write(folder: Path, images: Array, labels: Array, *, stem: str = "train", end: str = "") -> None:
    for name, values in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
        raw = packed(values)
        (folder / f"{name}{end}").write_bytes(gzip.compress(raw) if end else raw)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_pair_is_loaded_and_scaled(tmp_path: Path, end: str) -> None:
    images, labels = sample()
    write(tmp_path, images, labels, end=end)
    records = load_records(DataConfig(source=f"{IMAGES}{end}", holdout="1/3"), tmp_path).records
    assert records.x.shape == (30, 4, 5)
    assert records.x.dtype == np.float32
    assert records.classes == ("0", "1", "2")
    seen = sorted((x.tobytes(), int(y)) for x, y in zip(records.x, records.y, strict=True))
    wanted = sorted(
        ((image / 255).astype(np.float32).tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )
    assert seen == wanted


def test_plain_and_gzipped_files_give_the_same_records(tmp_path: Path) -> None:
    images, labels = sample()
    write(tmp_path, images, labels)
    plain = load_records(CONFIG, tmp_path).records.digest
    (tmp_path / "packed").mkdir()
    write(tmp_path / "packed", images, labels, end=".gz")
    config = DataConfig(source=f"packed/{IMAGES}.gz", holdout="1/3")
    assert load_records(config, tmp_path).records.digest == plain


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), max_size=4))
@settings(max_examples=20)
def test_ids_by_content_know_neither_order_nor_neighbours(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], gone: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    images, labels = sample(12)
    write(folder, images, labels)
    full = load_records(CONFIG, folder).records
    kept = [row for row in order if row not in gone]
    write(folder, images[kept], labels[kept])
    less = load_records(CONFIG, folder).records
    assert set(less.ids) <= set(full.ids)
    assert less.digest == full.select(less.ids).digest


def test_equal_records_get_a_counter_and_the_last_of_them_goes(tmp_path: Path) -> None:
    images, labels = sample(6)
    images[3] = images[5] = images[0]
    labels[3] = labels[5] = labels[0]
    images[4], labels[4] = images[1], labels[1] + 1  # an equal image with another label is another record
    write(tmp_path, images, labels)
    config = DataConfig(source=IMAGES, holdout="1/2")
    ids = load_records(config, tmp_path).records.ids
    counted = [name for name in ids if "/" in name]
    first = counted[0].partition("/")[0]
    assert counted == [f"{first}/2", f"{first}/3"]
    write(tmp_path, np.delete(images, 0, axis=0), np.delete(labels, 0))  # whichever row goes, the last id is gone
    assert set(load_records(config, tmp_path).records.ids) == set(ids) - {f"{first}/3"}


def test_ids_from_a_list_and_by_row(tmp_path: Path) -> None:
    images, labels = sample(6)
    write(tmp_path, images, labels)
    (tmp_path / "ids.txt").write_text("".join(f"person-{n}\n" for n in range(6)))
    listed = load_records(DataConfig(source=IMAGES, ids="ids.txt", holdout="1/2"), tmp_path).records
    assert listed.ids == tuple(f"person-{n}" for n in range(6))
    assert listed.x[4].tolist() == (images[4] / 255).astype(np.float32).tolist()
    numbered = load_records(DataConfig(source=IMAGES, ids="row", holdout="1/2"), tmp_path).records
    assert numbered.ids == tuple(f"row-{n}" for n in range(6))
    (tmp_path / "ids.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match=r"ids\.txt: names 2 ids, but the data hold more records"):
        load_records(DataConfig(source=IMAGES, ids="ids.txt"), tmp_path)
    (tmp_path / "ids.txt").write_text("".join(f"p{n}\n" for n in range(8)))
    with pytest.raises(DataError, match=r"ids\.txt:7: id 'p6' is one too many: the data hold 6 records"):
        load_records(DataConfig(source=IMAGES, ids="ids.txt"), tmp_path)
    (tmp_path / "ids.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"ids\.txt:3: id 'a' stands twice"):
        load_records(DataConfig(source=IMAGES, ids="ids.txt"), tmp_path)


def test_a_folder_of_pairs_and_its_test_set(tmp_path: Path) -> None:
    write(tmp_path, *sample(20), end=".gz")
    write(tmp_path, *sample(20))  # unpacked beside the packed one, as torchvision leaves them
    write(tmp_path, *sample(8, seed=1), stem="t10k", end=".gz")
    (tmp_path / "LICENSE").write_text("MIT")
    data = load_records(DataConfig(source=f"idx:{tmp_path}", holdout="t10k/"), tmp_path)
    assert (len(data.train), len(data.held_out)) == (20, 8)
    assert all(name.startswith("t10k/") for name in data.holdout)
    with pytest.raises(DataError, match=r"no id begins with 'test/', as \[data\] holdout says; the first is 't10k/"):
        load_records(DataConfig(source=f"idx:{tmp_path}", holdout="test/"), tmp_path)
    found = guess(tmp_path, tmp_path.parent)
    assert (found.config.source, found.config.holdout) == (f"idx:{tmp_path.name}", "t10k/")
    with pytest.raises(DataError, match=r"holds 2 sets of images, but \[data\] ids = 'ids\.txt' lists the ids of one"):
        load_records(DataConfig(source=f"idx:{tmp_path}", ids="ids.txt"), tmp_path)


@pytest.mark.parametrize("code", list(CODES))
def test_every_type_is_read_with_its_highest_byte_first(tmp_path: Path, code: str) -> None:
    values = np.array([[0, 1, -2], [3, 100, 127]], dtype=float) * (1 if code != "u1" else 0)
    values[1, 2] = 200 if code == "u1" else 127
    (tmp_path / "x").write_bytes(packed(values if code[-2] == "f" else values.astype(int), code))
    found = read_idx(tmp_path / "x")
    assert found.tolist() == values.tolist()
    assert found.dtype.isnative


def test_types_other_than_bytes_are_not_scaled(tmp_path: Path) -> None:
    values = np.array([[[0, 300], [-5, 7]]] * 4)
    (tmp_path / "my-images.idx").write_bytes(packed(values, ">i2"))
    (tmp_path / "mine").write_bytes(packed(np.array([0, 1, 0, 1]), ">i4"))
    config = DataConfig(source="my-images.idx", labels="mine", holdout="1/2", ids="row")
    assert load_records(config, tmp_path).records.x.max() == 300.0


def header(*sides: int, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(sides)]) + b"".join(struct.pack(">I", side) for side in sides)


GOOD_IMAGES, GOOD_LABELS = packed(sample()[0]), packed(sample()[1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", GOOD_LABELS, "begins with the bytes (none); expected 00 00 and a type"),
        (b"\x89PNG\r\n", GOOD_LABELS, "begins with the bytes 89 50 4e 47"),
        (header(2, 2, code=7), GOOD_LABELS, "begins with the bytes 00 00 07 02"),
        (b"\0\0\x08\0", GOOD_LABELS, "announces 0 dimensions; expected 1 to 8"),
        (b"\0\0\x08\xff" + bytes(1020), GOOD_LABELS, "announces 255 dimensions"),
        (header(3, 4)[:9], GOOD_LABELS, "ends within its header"),
        (GOOD_IMAGES[:-1], GOOD_LABELS, "and so 616; the file is cut off"),
        (GOOD_IMAGES + b"\0", GOOD_LABELS, "the file is too long"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), GOOD_LABELS, "GiB of memory; expected at most 16 GiB"),
        (header(*[2**32 - 1] * 8), GOOD_LABELS, "GiB of memory; expected at most 16 GiB"),
        (header(2**20, 64, 64), GOOD_LABELS, "and so 4294967312; the file is cut off"),
        (gzip.compress(header(2**20, 64, 63)), GOOD_LABELS, "holds only 0 bytes of values"),
        (gzip.compress(GOOD_IMAGES + bytes(2**24)), GOOD_LABELS, "holds more than 600 bytes of values"),
        (gzip.compress(GOOD_IMAGES)[:-20], GOOD_LABELS, "is a damaged gzip file (Compressed file ended before"),
        (gzip.compress(GOOD_IMAGES)[:30] + b"\xff" * 30, GOOD_LABELS, "is a damaged gzip file"),
        (gzip.compress(GOOD_IMAGES)[:-8] + bytes(8), GOOD_LABELS, "is a damaged gzip file (CRC check failed"),
        (header(0, 4, 4), header(0), "announces 0 x 4 x 4 values; expected at least one"),
        (GOOD_LABELS, GOOD_LABELS, "has one dimension of 30 values; expected images. Is it the file of labels?"),
        (GOOD_IMAGES, GOOD_IMAGES, "has shape (30, 4, 5); expected one label for each image"),
        (GOOD_IMAGES, packed(sample(29)[1]), "30 images, but train-labels-idx1-ubyte has 29 labels"),
        (GOOD_IMAGES, packed(np.arange(30.0), ">f4"), "its labels have type float32; expected whole numbers"),
        (GOOD_IMAGES, packed(np.arange(30) - 1, "i1"), "label -1 is below 0"),
        (GOOD_IMAGES, packed(np.arange(30) + 2**30, ">i4"), "is too high; expected class numbers below 65536"),
        (packed(np.full((30, 2, 2), np.nan), ">f4"), GOOD_LABELS, "has a feature that is NaN or infinite"),
        (packed(np.full((30, 2, 2), 1e300), ">f8"), GOOD_LABELS, "has a feature that is NaN or infinite"),
    ],
)
def test_wrong_files(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    (tmp_path / IMAGES).write_bytes(images)
    (tmp_path / LABELS).write_bytes(labels)
    with pytest.raises(DataError) as told:
        load_records(CONFIG, tmp_path)
    assert message in str(told.value)


def test_one_class_only(tmp_path: Path) -> None:
    write(tmp_path, sample()[0], np.zeros(30, int))
    with pytest.raises(DataError, match="only label 0 occurs; expected at least 2 classes"):
        load_records(CONFIG, tmp_path)


def test_an_unpacking_bomb_is_read_no_further_than_it_announces(tmp_path: Path) -> None:
    import tracemalloc

    bomb = gzip.compress(header(30, 4, 5) + bytes(2**28))
    (tmp_path / IMAGES).write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more than 600 bytes"):
        read_idx(tmp_path / IMAGES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


@given(st.binary(max_size=40), st.integers(0, 700), st.booleans())
@settings(max_examples=60)
def test_a_damaged_file_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, zipped: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "x"
    whole = gzip.compress(GOOD_IMAGES, mtime=0) if zipped else GOOD_IMAGES
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(DataError):  # any other error would fail the test, and so would a warning
        assert read_idx(path).size > 0


# through the command line ---------------------------------------------------------------------------------------------


def test_the_pages_of_init_and_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *sample(90), end=".gz")
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--data", f"{IMAGES}.gz"]) == 0
    told = capsys.readouterr().out
    assert f"source = {IMAGES}.gz: 90 images of 4 x 5 pixels" in told
    assert "ids = content: idx files have no ids" in told
    assert load_project(tmp_path / "cu-cert.toml").data.ids == "content"
    assert run(["train", "-o", "model.pt"]) == 0


def project(folder: Path, lines: str) -> None:
    (folder / "cu-cert.toml").write_text(f"schema = 1\n[data]\n{lines}\n")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (f'source = "{IMAGES}"', f"{IMAGES}: cannot be read (no such file); expected an idx file of images"),
        ('source = "idx:there"', "there: holds no file of images such as train-images-idx3-ubyte"),
        ('source = "idx:alone-images"', "has no labels beside it (looked for alone-labels and alone-labels.gz)"),
        ('source = "idx:other"', "its name does not contain 'images'"),
        ('source = "idx:other"\nlabels = "none"', "none: cannot be read (No such file or directory)"),
        ('source = "idx:other"\nlabels = "there"', "there: is a folder; expected an idx file"),
        ('source = "idx:there"\nlabels = "other"', "[data] labels = 'other'; expected no labels with a folder"),
        ('source = "digits"\nids = "content"', '[data] ids = "content"; expected no ids: the source is not'),
    ],
)
def test_train_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: str, message: str
) -> None:
    (tmp_path / "there").mkdir()
    for name in ("alone-images", "other"):
        (tmp_path / name).write_bytes(GOOD_IMAGES)
    project(tmp_path, lines)
    monkeypatch.chdir(tmp_path)
    assert message in refused(TRAIN, tmp_path, capsys)


# real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_real_files_as_they_lie_there(data_folder: Path, tmp_path: Path, name: str) -> None:
    folder = data_folder / name
    if not folder.is_dir():
        pytest.skip(f"CU_CERT_DATA holds no {name}")
    found = guess(folder, tmp_path).config
    data = load_records(found, tmp_path)
    assert (len(data.train), len(data.held_out)) == (10_000, 10_000)
    assert data.records.x.shape[1:] == (28, 28)
    raw = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8)[16:]
    assert np.isclose(data.held_out.x.sum(dtype=np.float64) * 255, int(raw.sum(dtype=np.int64)), rtol=1e-6)
    one = load_records(DataConfig(source=str(folder / f"{IMAGES}.gz")), tmp_path).records
    assert {f"train/{name}" for name in one.ids} == set(data.train.ids)
