"""A project that trains in milliseconds: 240 noisy records of 3 classes, logistic regression."""

from pathlib import Path

import numpy as np

TOML = """schema = 1
[data]
source = "data.npz"
[training]
recipe = "mlp"
hidden = [24]
epochs = 12
batch_size = 16
learning_rate = 0.2
[audit]
slots = {slots}
references = {references}
pilots = {pilots}
controls = {controls}
workers = {workers}
{more}
"""


def write_project(
    folder: Path,
    *,
    slots: int = 32,
    references: int = 70,
    pilots: int = 8,
    controls: int = 8,
    workers: int = 1,
    more: str = "",
    seed: int = 0,
    forget: int = 12,
) -> Path:
    """Write data, project file and id list; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    y = np.arange(150) % 3
    x = rng.normal(size=(150, 24)) + 0.6 * np.eye(3, 24)[y]
    ids = np.array([f"person-{row:03d}@example" for row in range(150)])
    np.savez(folder / "data.npz", x=x.astype(np.float32), y=y, ids=ids)
    text = TOML.format(
        slots=slots, references=references, pilots=pilots, controls=controls, workers=workers, more=more
    )
    (folder / "cu-cert.toml").write_text(text)
    from cu_cert.data import load_records
    from cu_cert.project import load_project

    train = load_records(load_project(folder / "cu-cert.toml").data, folder).train
    chosen = sorted(rng.choice(train.ids, forget, replace=False))
    (folder / "ids.txt").write_text("\n".join(chosen) + "\n")
    return folder
