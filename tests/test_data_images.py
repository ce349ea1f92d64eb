"""Image folders: what is decoded and how, ids from paths, and what is refused."""

import io
import os
import struct
import sys
import unicodedata
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import TRAIN, refused

from cu_cert.cli.main import run
from cu_cert.data import DataConfig, load_records
from cu_cert.data._guess import guess
from cu_cert.data._pixels import pixels
from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.project import load_project

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

CONFIG = DataConfig(source="images:d", holdout="1/2")


def grey(seed: int = 0, *, size: tuple[int, int] = (4, 6)) -> Any:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8))


def save(path: Path, image: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def fill(folder: Path, count: int = 4) -> Path:
    for number in range(count):
        save(folder / "d" / "cat" / f"{number}.png", grey(number))
        save(folder / "d" / "dog" / f"{number}.png", grey(100 + number))
    return folder / "d"


def png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG file by hand, so that its header can say anything."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def decoded(path: Path, size: tuple[int, int] | None = None, channels: int | None = None) -> Any:
    return pixels(path, path.name, size=size, channels=channels)[1]


# records --------------------------------------------------------------------------------------------------------------


def test_a_folder_is_loaded(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    (folder / "README.txt").write_text("beside the classes anything may lie")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    records = load_records(CONFIG, tmp_path).records
    assert records.classes == ("cat", "dog")
    assert records.ids[:2] == ("cat/0.png", "cat/1.png")
    assert records.x.shape == (8, 4, 6)
    found = records.select(["dog/2.png"])
    assert found.y.tolist() == [1]
    assert found.x[0].tolist() == (np.asarray(grey(102), np.float32) / np.float32(255)).tolist()


def test_removing_an_image_changes_no_other_record(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    full = load_records(CONFIG, tmp_path).records
    (folder / "cat" / "2.png").unlink()
    assert load_records(CONFIG, tmp_path).records.digest == full.without(["cat/2.png"]).digest


def test_which_folder_names_the_class(tmp_path: Path) -> None:
    for place in ("Greek/a", "Greek/b", "Latin/a"):
        save(tmp_path / "d" / place / "1.png", grey(len(place)))
    found = {
        level: load_records(replace(CONFIG, class_folder=level, holdout="Latin/"), tmp_path).records.classes
        for level in ("first", "last", "path")
    }
    assert found == {"first": ("Greek", "Latin"), "last": ("a", "b"), "path": ("Greek/a", "Greek/b", "Latin/a")}


def test_the_test_folder_can_be_held_out(tmp_path: Path) -> None:
    for place in ("train/a/1", "train/b/1", "test/a/1", "test/b/1", "test/b/2"):
        save(tmp_path / "d" / f"{place}.png", grey())
    found = guess(tmp_path / "d", tmp_path).config
    assert (found.class_folder, found.holdout, found.classes) == ("last", "test/", ("a", "b"))
    assert load_records(found, tmp_path).holdout == ("test/a/1.png", "test/b/1.png", "test/b/2.png")
    save(tmp_path / "d" / "masks" / "a" / "1.png", grey())
    with pytest.raises(DataError, match=r"beside test and train it holds masks, whose images would become records too"):
        guess(tmp_path / "d", tmp_path)


def test_ids_are_composed_however_a_file_system_stores_names(tmp_path: Path) -> None:
    save(tmp_path / "d" / unicodedata.normalize("NFD", "Käse") / "é.png", grey())
    save(tmp_path / "d" / "b" / "1.png", grey(1))
    save(tmp_path / "d" / "b" / "2.png", grey(2))
    records = load_records(replace(CONFIG, holdout="b/"), tmp_path).records
    assert records.ids[0] < "c"
    assert unicodedata.normalize("NFC", "Käse/é.png") in records
    assert unicodedata.normalize("NFC", "Käse") in records.classes


@pytest.mark.parametrize(
    ("one", "two"),
    [("cat/A.png", "cat/a.png"), ("cat/1.png", "Cat/1.png"), ("cat/\u00e9.png", "cat/e\u0301.png")],
)
def test_paths_that_another_system_takes_for_one(tmp_path: Path, one: str, two: str) -> None:
    for name in (one, two, "dog/1.png"):
        save(tmp_path / "d" / name, grey())
    if len(list((tmp_path / "d").rglob("*.png"))) < 3:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(DataError, match=r"are one file where upper and lower case or accents are not told apart"):
        load_records(CONFIG, tmp_path)


# pixels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["png", "bmp", "gif", "tif", "pgm"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, end: str) -> None:
    save(tmp_path / f"x.{end}", grey())
    wanted = np.asarray(grey(), np.float32) / np.float32(255)
    found = decoded(tmp_path / f"x.{end}", channels=1)
    assert np.array_equal(found, wanted)


def test_modes(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    rgb = Image.fromarray(colours)
    path = tmp_path / "x.png"
    save(path, rgb)
    assert np.array_equal(decoded(path), (colours / np.float32(255)).transpose(2, 0, 1))
    weights = (np.array([299, 587, 114]) * colours).sum(axis=2) / 1000
    assert np.abs(decoded(path, channels=1) * 255 - weights).max() < 1
    save(path, grey())
    assert np.array_equal(decoded(path, channels=3)[2], decoded(path))
    save(path, grey().point(lambda value: 255 * (value > 99), "1"))
    assert set(np.unique(decoded(path))) == {0.0, 1.0}


def test_palettes_become_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    image.putdata([0, 1, 2, 1])
    save(tmp_path / "x.png", image)
    found = decoded(tmp_path / "x.png") * 255
    assert found[:, 0, 0].tolist() == [255, 0, 0]
    assert found[:, 1, 0].round().tolist() == [10, 20, 30]
    save(tmp_path / "x.png", image, transparency=1)
    assert decoded(tmp_path / "x.png")[:, 0, 1].tolist() == [1, 1, 1]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 51)])
    save(tmp_path / "x.png", image)
    found = (decoded(tmp_path / "x.png") * 255).round()
    assert found[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [204, 204, 204]]
    faded = Image.new("LA", (2, 1))
    faded.putdata([(7, 255), (7, 0)])
    save(tmp_path / "y.png", faded)
    assert (decoded(tmp_path / "y.png") * 255).round().tolist() == [[7, 255]]


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[0, 1], [256, 65535]], dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    (tmp_path / "x.png").write_bytes(png(2, 2, 16, 0, rows))
    wanted = values.astype(np.float32) / np.float32(65535)
    assert np.array_equal(decoded(tmp_path / "x.png"), wanted)
    assert np.array_equal(decoded(tmp_path / "x.png", channels=3)[1], wanted)


def test_orientation_follows_the_camera(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    save(tmp_path / "x.png", grey(), exif=exif)
    assert np.array_equal(decoded(tmp_path / "x.png"), np.rot90(np.asarray(grey(), np.float32) / np.float32(255), -1))


def test_a_size_is_an_average_over_what_it_covers(tmp_path: Path) -> None:
    save(tmp_path / "x.png", Image.fromarray(np.kron([[0, 200], [100, 40]], np.ones((8, 8))).astype(np.uint8)))
    found = decoded(tmp_path / "x.png", size=(4, 2)) * 255
    assert found.shape == (4, 2)
    assert abs(found.mean() - 85) < 1
    assert decoded(tmp_path / "x.png", size=(16, 16)).tolist() == decoded(tmp_path / "x.png").tolist()


def test_the_preview_in_a_phones_jpeg_is_no_second_picture(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", grey(), format="MPO", save_all=True, append_images=[grey(1)])
    assert decoded(tmp_path / "x.jpg").shape == (4, 6)


def test_a_jpeg_is_near_what_was_drawn(tmp_path: Path) -> None:
    slope = np.linspace(0, 255, 64).astype(np.uint8)
    save(tmp_path / "x.jpg", Image.fromarray(np.tile(slope, (64, 1))), quality=95)
    assert np.abs(decoded(tmp_path / "x.jpg") - slope / 255).max() < 0.03


# refused --------------------------------------------------------------------------------------------------------------


def bytes_of(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(size: int) -> Any:
    return grey(size=(size, size))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.png", b"", "is not an image of a known format (PNG, JPEG"),
        ("x.png", b"GIF is what it says", "is not an image of a known format"),
        ("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image of a known format"),
        ("x.png", bytes_of(noise(64))[:-900], "cannot be decoded (image file is truncated"),
        ("x.jpg", bytes_of(noise(64), "JPEG")[:-900], "cannot be decoded (image file is truncated"),
        ("x.png", bytes_of(noise(64))[:200] + bytes(60) + bytes_of(noise(64))[260:], "cannot be decoded ("),
        ("x.png", png(20_000, 20_000, 8, 0, b""), "allowed; make the image smaller"),
        ("x.png", png(10_000, 10_001, 8, 0, b""), "has 10000 x 10001 pixels; expected at most 100000000"),
        ("x.png", png(2**31 - 1, 2**31 - 1, 8, 2, b""), "allowed; make the image smaller"),
        ("x.png", png(9_000, 9_000, 8, 0, b""), "cannot be decoded ("),
        ("x.jpg", bytes_of(Image.new("CMYK", (4, 4)), "JPEG"), "has pixels of mode CMYK, whose conversion depends on"),
        ("x.tif", bytes_of(Image.new("F", (4, 4)), "TIFF"), "has pixels of mode F"),
        ("x.tif", bytes_of(Image.new("I", (4, 4), 2**20), "TIFF"), "has pixels of mode I with values beyond"),
        (
            "x.gif",
            bytes_of(noise(8), "GIF", save_all=True, append_images=[noise(9).resize((8, 8))]),
            "holds 2 pictures; expected one",
        ),
        ("x.heic", b"x", "does not end as an image does (.png, .jpg"),
        ("x.png", bytes_of(grey(size=(5, 6))), "is 5 x 6, grey, but cat/0.png is 4 x 6, grey; expected one size"),
        ("x.png", bytes_of(Image.new("RGB", (6, 4))), "is 4 x 6, coloured, but cat/0.png is 4 x 6, grey"),
    ],
)
def test_wrong_images_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (fill(tmp_path) / "dog" / name).write_bytes(content)
    with pytest.raises(DataError) as told:
        load_records(CONFIG, tmp_path)
    assert message in str(told.value)
    assert name in str(told.value)


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'cu-cert\[images\]'"):
        load_records(CONFIG, tmp_path)


def test_names_that_no_list_can_hold(tmp_path: Path) -> None:
    fill(tmp_path)
    try:
        save(tmp_path / "d" / "cat" / "a\nb.png", grey())
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"the name 'cat/a\\nb\.png' has a control character or outer spaces"):
        load_records(CONFIG, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no names that are not text")
def test_names_that_are_not_text(tmp_path: Path) -> None:
    fill(tmp_path)
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "d" / "cat") + b"/\xff.png")).write_bytes(bytes_of(grey()))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r"the name b'cat/\\xff\.png' is not UTF-8; rename the file"):
        load_records(CONFIG, tmp_path)


# through the command line ---------------------------------------------------------------------------------------------


def test_init_guesses_and_train_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 20)
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--data", "d"]) == 0
    told = capsys.readouterr().out
    assert "source = images:d: 40 images, with ids such as 'cat/0.png'" in told
    data = load_project(tmp_path / "cu-cert.toml").data
    assert (data.class_folder, data.image_size, data.channels) == ("first", (4, 6), 1)
    assert run(["train", "-o", "model.pt"]) == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('source = "images:none"', "none: cannot be read (no such folder); expected a folder with one folder"),
        ('source = "images:file"', "file: is a file; expected a folder with one folder of images for each class"),
        ('source = "images:empty"', "empty: holds no image; expected one folder of images for each class"),
        ('source = "images:d/cat"', "0.png: lies in no folder that could name its class; expected"),
        ('source = "images:one"', "one: only one class ('a'); expected at least 2 folders of images"),
        ('source = "images:linked"', "is a link to a folder; expected the folder itself"),
        ('source = "images:"', '[data] source = "images:"; expected "digits", '),
        ('source = "images:d"\nchannels = 2', "[data] channels = 2; expected 1 or 3"),
        ('source = "images:d"\nimage_size = [0, 9]', "[data] image_size = [0, 9]; expected two sizes from 1 to 4096"),
        ('source = "images:d"\nimage_size = 9', "[data] image_size = 9; expected a height and a width in pixels"),
        ('source = "images:d"\nclass_folder = "root"', 'class_folder = "root"; expected "first", "last" or "path"'),
        ('source = "images:d"\nclasses = ["cat", "cow"]', "has label 'dog'; expected one of 'cat', 'cow'"),
        ('source = "images:d"\nids = "content"', "expected no ids: the source is not"),
        ('source = "digits"\nchannels = 1', '[data] channels = 1; expected no channels: the source is not "images:'),
    ],
)
def test_train_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lines: str, message: str
) -> None:
    fill(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "one" / "a" / "1.png", grey())
    save(tmp_path / "linked" / "a" / "1.png", grey())
    (tmp_path / "linked" / "b").symlink_to(tmp_path / "d")
    (tmp_path / "cu-cert.toml").write_text(f"schema = 1\n[data]\n{lines}\n")
    monkeypatch.chdir(tmp_path)
    assert message in refused(TRAIN, tmp_path, capsys)


# real data ------------------------------------------------------------------------------------------------------------


def test_mvtec_as_it_lies_there(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "mvtec-screw" / "screw" / "test"
    if not folder.is_dir():
        pytest.skip("CU_CERT_DATA holds no mvtec-screw")
    found = guess(folder, tmp_path).config
    assert (found.image_size, found.channels, found.classes[0]) == ((256, 256), 1, "good")
    records = load_records(replace(found, image_size=(32, 32)), tmp_path).records
    assert records.x.shape == (100, 32, 32)


def test_omniglot_unpacked(data_folder: Path, tmp_path: Path) -> None:
    import zipfile

    archive = data_folder / "omniglot-small" / "images_background_small1.zip"
    if not archive.is_file():
        pytest.skip("CU_CERT_DATA holds no omniglot-small")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    found = guess(tmp_path / "images_background_small1", tmp_path).config
    records = load_records(replace(found, class_folder="path", image_size=(28, 28), classes=()), tmp_path).records
    assert (len(records), len(records.classes)) == (2720, 136)
