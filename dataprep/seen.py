"""Seen: which tokens a run's weights hold, shard by shard, so that a plan can leave exactly those out.

In:  RUN@STEP, the journals, and the recipes and plans that they name. Out: runs of tokens, each token once.
Holds: nothing is guessed: a gap in the ancestry, or a recipe, plan or shard that is not the one that was trained on,
       is refused by name. Rows that were computed and lost in a crash are in no weights, so they are not left out.

    base@20 holds rows 0–160 of `web`; its child mid@10 those and rows 0–80 of `chat`
    → the segments of all these rows, in the shards that a new plan draws from
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from dataprep import intervals, packing
from dataprep.errors import DataError, UsageError
from dataprep.ledger import AncestorRows, Journal, find_journals, read_journal, rows_in_weights, trace_lineage
from dataprep.packing import Pieces
from dataprep.paths import Paths
from dataprep.plan import open_plan
from dataprep.quantity import run_at_step
from dataprep.recipe import Recipe, RecipeShard, load_recipe


def settle_runs(paths: Paths, asked: Sequence[tuple[str, int | None]], before: Sequence[str]) -> tuple[str, ...]:
    """Every RUN[@STEP] as RUN@STEP, sorted.

    A bare RUN means its newest weights, but where the recipe of this name was packed `before` with other ones, it
    goes on meaning those: the same command is the same recipe, however far the run went on.
    """
    settled = {f"{run}@{_step(paths, run, step)}" for run, step in asked if step is not None}
    for run in (run for run, step in asked if step is None):
        earlier = [known for known in before if run_at_step(known)[0] == run and known not in settled]
        settled.add(earlier[0] if earlier else f"{run}@{_step(paths, run, None)}")
    return tuple(sorted(settled))


def read_seen(
    paths: Paths,
    exclude_seen: Sequence[str],
    *,
    fingerprint: str,
    shards: Sequence[RecipeShard],
    weights: Sequence[str | None] | None = None,
) -> Pieces:
    """What these weights hold of `shards`, each token once. Raises DataError where that cannot be told.

    A step that was trained again names its last weights, unless `weights` says by sha256 which of them are meant.
    """
    held = {(shard.source, shard.shard): i for i, shard in enumerate(shards)}
    parts = [packing.no_pieces()]
    for run_step, sha256 in zip(exclude_seen, weights or [None] * len(exclude_seen), strict=True):
        for rows in _ancestor_rows(paths, run_step, sha256):
            refuse_counted(rows.row_tokens, rows.recipe, where=run_step)
            recipe = trained_recipe(paths, rows.recipe, rows.recipe_sha256, where=run_step)
            if recipe.fingerprint != fingerprint:
                raise _other_tokenizer(run_step, recipe, fingerprint)
            parts.append(_in_shards(paths, rows, recipe, held, shards))
    return intervals.union(packing.join(parts))


def saved_weights(paths: Paths, run_step: str) -> list[str | None]:
    """The sha256 of all weights ever saved under this name, newest first: a run that was rewound saves a step again."""
    run, step = run_at_step(run_step)
    saved = find_journal(paths, run).of_kind("checkpoint")
    return list(dict.fromkeys(record["sha256"] for record in reversed(saved) if record["step"] == step)) or [None]


def hash_seen(seen: Pieces, shards: Sequence[RecipeShard]) -> str:
    """sha256 over the runs of tokens and the bytes of the shards they are in."""
    digest = hashlib.sha256()
    for number in np.unique(seen.shard).tolist():
        shard, mine = shards[number], seen.shard == number
        digest.update(f"{shard.source}/{shard.shard} {shard.bin_sha256}\n".encode())
        digest.update(np.stack([seen.start[mine], seen.length[mine]], axis=1).astype("<i8").tobytes())
    return digest.hexdigest()


def trained_recipe(paths: Paths, name: str, sha256: str, *, where: str) -> Recipe:
    """The recipe that a run was trained on. Raises DataError when it is gone or has other rows now."""
    file = paths.recipes / f"{name}.toml"
    recipe = load_recipe(paths, name) if file.exists() else None
    if recipe is None or recipe.sha256 != sha256:
        raise DataError(
            f"recipe {name!r}, which {where} was trained on, is {'gone' if recipe is None else 'packed anew'}",
            seen=f"no {paths.shown(file)}" if recipe is None else f"sha256 {recipe.sha256[:12]}…",
            wanted=f"sha256 {sha256[:12]}…",
            fix=f"bring {paths.shown(file)} and plans/{name}.parquet back from a copy; or python -m dataprep.pack"
            f" --name {name} with the settings it was packed with",
        )
    return recipe


def refuse_counted(row_tokens: int | None, recipe: str, *, where: str) -> None:
    """Raise DataError for rows of a supply that was only counted: no token of it is known."""
    if row_tokens is not None:
        raise DataError(
            f"{where} was replayed over {recipe!r}, of which only the size is known",
            seen=f"rows of {row_tokens:,} tokens, without a plan",
            wanted="a recipe that was packed: which documents its rows hold is known then",
            fix="python -m dataprep.sql --file manifests/queries/tokens_in_weights.sql   # what can be told",
        )


def find_journal(paths: Paths, run: str) -> Journal:
    """A run's journal, in the trash too. Raises UsageError naming the runs there are."""
    known = find_journals(paths.runs)
    journal = read_journal(known[run]) if run in known else None
    if journal is None or not journal.of_kind("start"):
        raise UsageError(
            f"there is no run {run!r}",
            seen=", ".join(known) or f"no journal in {paths.shown(paths.runs)}",
            wanted="a run that has begun",
            fix='python -m dataprep.sql "FROM progress"',
        )
    return journal


def _step(paths: Paths, run: str, step: int | None) -> int:
    """The step asked for, or that of the weights that count now. Raises UsageError where none were saved."""
    journal = find_journal(paths, run)
    saved = journal.of_kind("checkpoint")
    kept = rows_in_weights(journal.records)
    of_now = [record for record in saved if kept and record["rows_done"] == kept[-1].row_to]
    if step is None and of_now:
        return of_now[-1]["step"]
    if step is not None and step in {record["step"] for record in saved}:
        return step
    start = journal.of_kind("start")[0]
    parent = f"--exclude-seen {start['parent_run']}@{start['parent_step']} for what it began with; or "
    steps = sorted({record["step"] for record in saved})
    raise UsageError(
        f"run {run!r} has no weights of its own yet"
        if step is None
        else f"run {run!r} saved no weights at step {step}",
        seen=f"checkpoints of steps {', '.join(map(str, steps))}" if steps else "no checkpoint in its journal",
        wanted="weights whose rows are known",
        fix=f"--exclude-seen {run}@{steps[-1]}"
        if steps
        else f"{parent if start['parent_run'] else ''}train it to its first checkpoint",
    )


def read_ancestry(paths: Paths, run: str) -> dict[str, Journal]:
    """The journals of a run and its ancestors, as far as there are any. Another run's damage does not matter here."""
    known, journals, ancestor = find_journals(paths.runs), {}, run
    while ancestor in known and ancestor not in journals:
        journals[ancestor] = read_journal(known[ancestor])
        starts = journals[ancestor].of_kind("start")
        ancestor = starts[0]["parent_run"] if starts else None
    return journals


def _ancestor_rows(paths: Paths, run_step: str, sha256: str | None) -> tuple[AncestorRows, ...]:
    """The rows of the whole ancestry. Raises DataError where it cannot be told."""
    run, step = run_at_step(run_step)
    lineage = trace_lineage(read_ancestry(paths, run), run, step, sha256)
    if lineage.gap:
        raise DataError(
            f"what {run_step} has seen cannot be told",
            seen=lineage.gap,
            wanted="the journals of its whole ancestry",
            fix=f"bring {paths.shown(paths.runs)}/RUN/journal.jsonl of that run back from a copy; or leave"
            f" --exclude-seen {run_step} out",
        )
    return lineage.rows


def _in_shards(
    paths: Paths, rows: AncestorRows, recipe: Recipe, held: dict[tuple[str, str], int], shards: Sequence[RecipeShard]
) -> Pieces:
    """The rows' runs of tokens in `shards`. Shards that are not drawn from any more have nothing to leave out."""
    segments = open_plan(paths, recipe).segments(rows.row_from, rows.row_to)
    number_of = np.full(len(recipe.shards), -1, dtype=np.int32)
    for i in np.unique(segments.shard).tolist():
        trained = recipe.shards[i]
        number_of[i] = number = held.get((trained.source, trained.shard), -1)
        if number >= 0 and shards[number].bin_sha256 != trained.bin_sha256:
            raise DataError(
                f"{trained.shard} of {trained.source} is not the one that {rows.ancestor} was trained on",
                seen=f"sha256 {shards[number].bin_sha256[:12]}…",
                wanted=f"{trained.bin_sha256[:12]}…: the tokens it saw are not these",
                fix=f"bring that {trained.shard} back; or leave {trained.source} out of --sources",
            )
    segments = segments[number_of[segments.shard] >= 0]
    length = segments.length.astype(np.int64)
    return intervals.union(Pieces(shard=number_of[segments.shard], start=segments.start, length=length))


def _other_tokenizer(run_step: str, recipe: Recipe, fingerprint: str) -> DataError:
    """Tokens of two vocabularies cannot be told to be the same text, so they are not compared."""
    return DataError(
        f"{run_step} was trained under another tokenizer: what it saw is not counted in these tokens",
        seen=f"{recipe.tokenizer}, fingerprint {recipe.fingerprint[:12]}…",
        wanted=f"fingerprint {fingerprint[:12]}…",
        fix=f"--tokenizer {recipe.tokenizer}; or leave --exclude-seen {run_step} out",
    )
