"""Bench `pack`: a million documents put into rows, beside other packers; and a plan for 100 billion tokens.

In:  lengths drawn once (web: lognormal, mean 1,000; chat: mean about 260), and synthetic shards. Out: three tables.
Holds: ours is held to a naive best-fit decreasing and to every token's place in the same run; OLMo-core's planner,
       which does the same by other means, must leave the very same rooms.
"""

import statistics
from pathlib import Path

import numpy as np
from harness import FOLDER, Comparison, Contender, Options, Reply, Report, Table, compare
from pack_rows import chat, lognormal
from plan_10b import hold

from dataprep.paths import Paths

SEQ_LEN, N_DOCUMENTS, N_SHARDS = 2_048, 1_000_000, 1_823
_TRL = {
    "script": "pack_trl.py",
    "requirements": ("trl", "torch==2.13.0"),
    "venv": "trl",
}
_OF_TRL = "copies tokens into rows, the others plan; packs every 1,000 documents by themselves; 100,000 of them here"
CONTENDERS = (
    Contender(name="quern best-fit", script="pack_quern.py", arguments=("--strategy", "best-fit")),
    Contender(name="quern concat", script="pack_quern.py", arguments=("--strategy", "concat")),
    Contender(
        name="trl bfd",
        arguments=("--strategy", "bfd", "--documents", "100000"),
        note=f"{_OF_TRL}; truncates what is longer than a row",
        **_TRL,
    ),
    Contender(
        name="trl bfd_split", arguments=("--strategy", "bfd_split", "--documents", "100000"), note=_OF_TRL, **_TRL
    ),
    Contender(
        name="olmo-core",
        script="pack_olmo.py",
        requirements=("ai2-olmo-core", "torch==2.13.0"),
        note="its planner alone, documents split beforehand; must leave the same rooms as ours",
    ),
)
PLANS = tuple(
    Contender(name=f"100B {strategy}", script="pack_plan.py", arguments=("--strategy", strategy))
    for strategy in ("concat", "best-fit")
)


def run(options: Options) -> Report:
    """Two distributions, then the plans."""
    report = Report(tables=[])
    for name, draw in (("lognormal", lognormal), ("chat", chat)):
        file = _lengths(name, draw)
        arguments = ["--lengths", str(file), "--seq-len", str(SEQ_LEN)]
        compared = compare(CONTENDERS, arguments, rounds=options.rounds, judge=_Judge())
        report.tables.append(_table(name, compared))
        report.raw[name] = compared.raw()
        ours = compared.lines[0].replies
        if compared.lines[0].rates:
            report.figures[f"{name} seconds"] = statistics.median(reply["seconds"] for reply in ours)
            report.figures[f"{name} fill percent"] = ours[0]["check"]["fill_percent"]
        if times := compared.ratio("olmo-core"):
            report.figures["times olmo"] = min(times, report.figures.get("times olmo", times))
    _plans(options, report)
    return report


class _Judge:
    """Nothing lost where nothing may be; rooms equal to ours where the algorithm is ours."""

    def __init__(self) -> None:
        self._rooms = ""

    def __call__(self, name: str, reply: Reply, _: Path) -> str | None:
        """What is wrong, if anything is."""
        check = reply["check"]
        if check["lost"] and name != "trl bfd":
            return f"{check['lost']:,} tokens are lost"
        if name == "quern best-fit":
            self._rooms = check["rooms_sha256"]
        if name == "olmo-core" and check["rooms_sha256"] != self._rooms:
            return "its rows leave other rooms than ours"
        return None


def _lengths(name: str, draw) -> Path:  # noqa: ANN001 -- a function of a number
    file = FOLDER / "data" / f"lengths-{name}-{N_DOCUMENTS}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, draw(N_DOCUMENTS))
    return file


def _table(name: str, compared: Comparison) -> Table:
    """The harness's table with fill and loss beside it."""
    table = compared.table(
        f"{N_DOCUMENTS:,} documents, {name} lengths, rows of {SEQ_LEN:,}", "M documents/s", scale=1e6
    )
    table.header[3:3] = ["seconds", "fill %", "tokens lost"]
    for row, line in zip(table.rows, compared.lines, strict=True):
        cells = [None, None, None]
        if line.rates:
            told = line.replies[0]["check"]
            seconds = statistics.median(reply["seconds"] for reply in line.replies)
            cells = [round(seconds, 3), round(told["fill_percent"], 3), told["lost"]]
        row[3:3] = cells
    return table


def _plans(options: Options, report: Report) -> None:
    root = FOLDER / "data" / f"shards-{N_SHARDS}"
    if not root.exists():
        part = root.with_name(f".{root.name}.part")
        hold(Paths(root=part), N_SHARDS)
        part.rename(root)
    compared = compare(PLANS, ["--root", str(root)], rounds=options.rounds)
    rows = []
    for line in compared.lines:
        if not line.rates:
            rows.append([line.contender.name, None, line.trouble, None, None, None, None])
            continue
        seconds = [reply["seconds"] for reply in line.replies]
        told, peak = line.replies[0]["check"], max(reply["peak_anonymous_bytes"] for reply in line.replies)
        spread, middle = f"{min(seconds):.1f}–{max(seconds):.1f}", statistics.median(seconds)
        numbers = [round(told["tokens"] / 1e9, 2), told["rows"], round(told["plan_bytes"] / 1e6), round(peak / 1e6)]
        rows.append([line.contender.name, round(middle, 1), spread, *numbers])
        if line.contender is PLANS[0]:  # the default strategy is what the target is of
            report.figures |= {"100B plan seconds": middle, "100B plan GB": peak / 1e9}
    header = ["plan", "seconds", "spread", "B tokens", "rows", "plan MB", "peak MB"]
    note = "peak memory without the pages of mapped document ends, which the kernel takes back when it wants"
    title = f"A plan from {N_SHARDS:,} shards of 56 M tokens, 30:70, published"
    report.tables.append(Table(title=title, header=header, rows=rows, notes=[note]))
    report.raw["plans"] = compared.raw()
