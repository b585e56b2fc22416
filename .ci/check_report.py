"""Does the main job's folder hold what the README promises?

Usage: check_report.py FOLDER
"""

import json
import re
import sys
from pathlib import Path

folder = Path(sys.argv[1])
html = (folder / "report.html").read_text(encoding="utf-8")
text = (folder / "report.md").read_text(encoding="utf-8")
assert (folder / "results.csv").stat().st_size > 1000
assert "too short to judge plasticity" in html.lower()
assert "too short to judge plasticity" in text.lower()

number = r"-?\d+(\.\d+)?"
section = text[text.index("Phase-0 return, IQM [95 % interval]") :]
for arm in ("none", "sam"):
    row = rf"\| {arm} \| {number} \[{number}, {number}\] \|"
    assert re.search(row, section), f"no IQM with an interval for {arm}"

trained = 0
for done in folder.glob("*/*/*/*/done.json"):
    facts = json.loads(done.read_text(encoding="utf-8"))
    header = json.loads((done.parent / "header.json").read_text(encoding="utf-8"))
    assert facts["status"] == "done", done
    if header["cell"]["agent"] == "random":
        continue
    trained += 1
    assert facts["updates"] > 0, done
    if header["cell"]["intervention"]:
        assert facts["interventions"]["sam"]["sam_updates"] > 0, done
    assert list((done.parent / "tensorboard").glob("events.*")), done
assert trained == 24, trained
print(f"{trained} trained cells, all with updates; the report is there")
