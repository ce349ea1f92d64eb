"""Write the data of this example: loans.csv, holdout.txt and forget.txt. The loans are invented.

python make_data.py [FOLDER]
"""

import csv
import math
import random
import sys
from pathlib import Path

JOBS = ("baker", "clerk", "farmer", "nurse", "smith", "teacher")


def main(folder: Path) -> None:
    draw = random.Random(7)
    ids = [f"loan-{number:04d}" for number in range(400)]
    with (folder / "loans.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "age", "income", "debt", "job", "repaid"])
        for identifier in ids:
            age, income, debt = draw.uniform(2, 7), draw.gauss(3, 1), draw.expovariate(1)
            job = draw.choice(JOBS)
            logit = 1.5 * (income - 3) - 2 * (debt - 1) + (job in ("nurse", "teacher"))
            repaid = draw.random() < 1 / (1 + math.exp(-logit))
            table.writerow([identifier, f"{age:.3f}", f"{income:.3f}", f"{debt:.3f}", job, "yes" if repaid else "no"])
    (folder / "holdout.txt").write_text("# never trained on\n" + "\n".join(ids[320:]) + "\n", encoding="utf-8")
    (folder / "forget.txt").write_text("# deletion requests of May\n" + "\n".join(ids[:20]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
