"""Settings: what was asked for, else what the run was begun with, else the stage's or the preset's default.

In:  the command line, the run's last start record, the parent's. Out: `Settings`, with nothing left open.
Holds: `--run-name X` alone goes on with X as it was: no recipe, rate or batch changes because a flag was left out.
asked --learning-rate 1e-3 > begun with 6e-4 > the preset's rate times the stage's factor
"""

from dataclasses import dataclass, replace

from dataprep.errors import DataError, UsageError
from dataprep.ledger import Record, read_journal
from dataprep.paths import Paths
from dataprep.recipe import newest_recipe
from dataprep.shapes import PRESETS, ModelShape, Preset
from train.config import TrainConfig
from train.routine import Routine, choose_routine
from train.runs.trash import refuse_trashed
from train.stages import STAGES, Stage


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the losses, besides the recipe's rows; and the routine around the steps."""

    run: str
    recipe: str
    stage_name: str
    model: str
    shape: ModelShape
    optimizer: str
    schedule: str
    peak_rate: float
    seed: int
    batch_tokens: int | None  # None: the preset's
    routine: Routine
    begun: Record | None  # the start of the run's last attempt; None for a new run

    @property
    def preset(self) -> Preset:
        """What the model's name stands for."""
        return PRESETS[self.model]

    @property
    def stage(self) -> Stage:
        """What the stage's name stands for."""
        return STAGES[self.stage_name]


def choose_settings(config: TrainConfig, paths: Paths) -> Settings:
    """Settle every setting. Raises UsageError or DataError."""
    parent = _parent_start(paths, config.parent[0]) if config.parent else None
    recipe = config.recipe or (newest_recipe(paths) if config.run is None else None)
    model = config.model or (parent or {}).get("preset", "tiny")
    run = config.run or f"{recipe}-{model}"
    refuse_trashed(paths, run, wanted="a run in runs/, or a name that is free", instead="--run-name with another name")
    begun = _last_start(paths, run)
    if begun and "preset" not in begun:
        raise _replayed(run)
    was = begun or {}
    stage_name = _stage_name(config, run, begun)
    model = config.model or was.get("preset", model)
    preset, stage = PRESETS[model], STAGES[stage_name]
    shape_before = was.get("model") or (parent or {}).get("model") or {}
    tied = config.head == "tied" if config.head else shape_before.get("tied", True)
    return Settings(
        run=run,
        recipe=recipe or was.get("recipe") or newest_recipe(paths),
        stage_name=stage_name,
        model=model,
        shape=replace(preset.shape, tied=tied),
        optimizer=config.optimizer or was.get("optimizer") or _optimizer_of(config, parent),
        schedule=config.schedule or was.get("schedule", stage.schedule),
        peak_rate=config.learning_rate or was.get("learning_rate", preset.learning_rate * stage.rate_factor),
        seed=was.get("seed", 1) if config.seed is None else config.seed,
        batch_tokens=config.batch_tokens or (was["batch_rows"] * was["seq_len"] if begun else None),
        routine=choose_routine(config, was.get("routine", {})),
        begun=begun,
    )


def _parent_start(paths: Paths, run: str) -> Record | None:
    refuse_trashed(paths, run, wanted="a parent in runs/", instead="another --parent")
    return _last_start(paths, run)


def _last_start(paths: Paths, run: str) -> Record | None:
    starts = read_journal(paths.journal(run)).of_kind("start")
    return starts[-1] if starts else None


def _optimizer_of(config: TrainConfig, parent: Record | None) -> str:
    """A kept optimizer is of the parent's kind."""
    kept = (parent or {}).get("optimizer") if config.keep_optimizer else None
    return kept or "adamw"


def _stage_name(config: TrainConfig, run: str, begun: Record | None) -> str:
    """The stage asked for, or the one the run began with: its rate must not jump because a flag was left out."""
    if begun is None:
        return config.stage or "pretrain"
    if config.stage not in (None, begun["stage"]):
        raise DataError(
            f"run {run!r} was begun as another stage",
            seen=f"--stage {config.stage}",
            wanted=begun["stage"],
            fix="leave --stage out to go on; or begin a run of its own: --run-name NAME --parent RUN",
        )
    return begun["stage"]


def _replayed(run: str) -> UsageError:
    return UsageError(
        f"run {run!r} was replayed from a file, not trained: it has no weights to go on from",
        seen="a start record without a model",
        wanted="a run that was trained here",
        fix="another name: --run-name NAME",
    )
