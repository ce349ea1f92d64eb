"""One process that audits two requests against one release: ``python -m benchmarks._fleet_audits SETTING FOLDER``.

It prints the CPU seconds and the trained models of each audit as one JSON object. Everything happens in this process
with one worker, so imports are paid before the clock starts.
"""

import json
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks._fleet_train import fashion_images

_PROJECT: Final = """schema = 1
[data]
source = "{source}"
[training]
recipe = "mlp"
{training}
[audit]
workers = 1
shadows = 64
{audit}
"""

SETTINGS: Final = {
    "single records": "",
    "sequential": 'questions = ["procedure"]\nsequential = true\npilots = 8',
    "everything": "",
    "single records, fashion": "",
}
"""Attacks on single records with 64 shadows alone; with slots one by one, on a model that unlearned nothing; with all
slots and references of the default sizes; and the first on data whose models take longer."""

REQUEST: Final = 20


def main() -> None:
    """Audit twice and print what it took."""
    setting, folder = sys.argv[1], Path(sys.argv[2])
    source, training = "digits", ""
    if setting.endswith("fashion"):
        source, training = str(fashion_images()), "batch_size = 128\nlearning_rate = 0.05"
    text = _PROJECT.format(source=source, training=training, audit=SETTINGS[setting])
    (folder / "cu-cert.toml").write_text(text, encoding="utf-8")
    from cu_cert import protocol
    from cu_cert.fleet.environment import single_threaded
    from cu_cert.no_retrain import audit_without_retraining
    from cu_cert.project import load_project
    from cu_cert.rng import Stream
    from cu_cert.stocking import train_release
    from cu_cert.training import train_model

    single_threaded()
    project = load_project(folder / "cu-cert.toml")
    model = folder / "model.pt"
    ids = train_model(project, model).train_ids
    order = [ids[row] for row in Stream.from_seed("benchmark requests").order(ids)]
    told = []
    for number in range(2):
        listed, out = folder / f"ids-{number}.txt", folder / f"out-{number}"
        listed.write_text("\n".join(sorted(order[REQUEST * number : REQUEST * (number + 1)])) + "\n", encoding="utf-8")
        start = time.process_time()
        if setting.startswith("single records"):
            trained = train_release(project, originals=0, quiet=True).trained
            audit_without_retraining(model, listed, project=project, out=out, sign=False, say=lambda line: None)
        else:
            audited = protocol.audit(
                model,
                listed,
                project=project,
                method="identity" if setting == "sequential" else "npo",
                out=out,
                sign=False,
                quiet=True,
                say=lambda line: None,
            )
            trained = audited.trained
        told.append({"seconds": time.process_time() - start, "trained": trained})
    print(json.dumps(told))


if __name__ == "__main__":
    main()
