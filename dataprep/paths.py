"""Where everything lives: one object, built from DATAPREP_ROOT, asked by everyone.

In:  the environment variable DATAPREP_ROOT (default: the current folder).
Out: paths only; nothing here creates, reads or checks a file.
Holds: no other module spells a folder name, so a layout change is a change of this file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

# schema.sql, queries/ and the data dictionary ship with the code, beside the package.
SHIPPED_MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
# In a run's folder, in the trash too.
JOURNAL, FINDINGS, CHECKPOINTS = "journal.jsonl", "findings.jsonl", "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Every generated file's address under one root."""

    root: Path

    @property
    def data(self) -> Path:
        """Everything that can be made again from the internet and time."""
        return self.root / "data"

    def raw(self, source: str) -> Path:
        """Downloaded or built shards of `source`, as they came."""
        return self.data / "raw" / source

    def source_record(self, source: str) -> Path:
        """What was last asked of `source`, and what its origin promised."""
        return self.data / "sources" / f"{source}.json"

    @property
    def bundles(self) -> Path:
        """Evaluation bundles, `<name>.zip` with the receipt `<name>.json`."""
        return self.data / "bundles"

    @property
    def vocab(self) -> Path:
        """Ranks and their receipts."""
        return self.data / "vocab"

    @property
    def all_bins(self) -> Path:
        """`<tokenizer>/<source>/<shard>.{bin,docs,json}` below here."""
        return self.data / "bins"

    def bins(self, tokenizer: str, source: str) -> Path:
        """One source's bins under one tokenizer."""
        return self.all_bins / tokenizer / source

    @property
    def manifests(self) -> Path:
        """tokens.db, recipes and plans."""
        return self.root / "manifests"

    @property
    def database(self) -> Path:
        """The derived catalogue of every token."""
        return self.manifests / "tokens.db"

    @property
    def recipes(self) -> Path:
        """`<recipe>.toml`, one per plan."""
        return self.manifests / "recipes"

    @property
    def plans(self) -> Path:
        """`<recipe>.parquet`, one per recipe."""
        return self.manifests / "plans"

    def contamination(self, recipe: str, bundle_sha256: str) -> Path:
        """Which items of a bundle occur in a recipe's plan."""
        return self.manifests / "contamination" / f"{recipe}-{bundle_sha256[:12]}.json"

    @property
    def runs(self) -> Path:
        """A folder per run, by its name."""
        return self.root / "runs"

    def journal(self, run: str) -> Path:
        """What a run did."""
        return self.runs / run / JOURNAL

    def findings(self, run: str) -> Path:
        """What was found out about a run's weights after they were trained."""
        return self.runs / run / FINDINGS

    def checkpoints(self, run: str) -> Path:
        """What a run can go on from."""
        return self.runs / run / CHECKPOINTS

    def shown(self, path: Path) -> str:
        """`path` as a person standing in the root would type it."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


def find_paths() -> Paths:
    """The layout under DATAPREP_ROOT, or under the current folder."""
    return Paths(root=Path(os.environ.get("DATAPREP_ROOT") or ".").resolve())
