"""``digits``: 1797 images of 8 x 8 pixels from scikit-learn, which need no download."""

from pathlib import Path

from cu_cert.data._config import DataConfig
from cu_cert.data._rows import assemble
from cu_cert.records import Records


def load(config: DataConfig, root: Path) -> Records:
    """Load the digits: ids ``digit-0000`` ..., pixels in [0, 1], classes ``0`` to ``9``.

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``; every source is called alike, and this one reads nothing there.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    ids = [f"digit-{row:04d}" for row in range(len(labels))]
    return assemble(
        "digits", ids, pixels / 16, labels, found=[str(digit) for digit in range(10)], declared=config.classes
    )
