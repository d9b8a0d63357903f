"""`ModelTeacher.teach`: python teach.py PORT ROWS OUT."""

import json
import sys
from pathlib import Path

from pomona.synth.teachers import Assignment, ModelTeacher, Terms

port, count, out = sys.argv[1:]
rows = [Assignment(str(at), f"text {at}", "en", "af") for at in range(int(count))]
terms = Terms(licence="MIT", price=(1.0, 1.0), concurrency=8)
teacher = ModelTeacher(
    f"http://127.0.0.1:{port}/v1#dummy", "{text}", Path("answers.db"), terms, max_tokens=64
)
lessons = teacher.teach(rows)
told = {row.text: lesson.text for row, lesson in zip(rows, lessons.taught, strict=True)}
Path(out).write_text(json.dumps(told), encoding="utf-8")
