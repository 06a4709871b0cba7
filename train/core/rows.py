"""Rows: what is computed together, laid so that the part that a question's choices share is computed once.

In:  questions. Out: `Row`s: tokens with their positions and branches, and where each judged token is foretold.
Holds: a token sees what it would see in a row of its own, at the positions it would have there: shared tokens
       (branch 0) and its own branch, up to itself. A row is never longer than the context: where the choices' tails
       would make it so, or where cutting left nothing to share, each choice has a row of its own.
    e Q > A B | e Q > C D E     tokens e Q > A C D    positions 0 1 2 3 3 4    branches 0 0 0 1 2 2
                                foretold: A at 2, B at 3 (choice 0); C at 2, D at 4, E at 5 (choice 1)
Suffixes: B rows, T positions, S judged tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.core.questions import Question, common_length

_NO_BRANCH = -1  # padding: sees itself and what is shared, so that no softmax is over nothing; nobody sees it


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row, int64 throughout. `owners_S` numbers the sequences over all questions."""

    tokens_T: np.ndarray
    positions_T: np.ndarray
    branches_T: np.ndarray
    places_S: np.ndarray
    targets_S: np.ndarray
    owners_S: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens_T)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of several lengths, filled up to the longest."""

    tokens_BT: np.ndarray
    positions_BT: np.ndarray
    branches_BT: np.ndarray
    rows_S: np.ndarray
    places_S: np.ndarray
    targets_S: np.ndarray
    owners_S: np.ndarray

    @property
    def is_plain(self) -> bool:
        """Whether every row is a single sequence: what is causal needs no mask, and padding comes last."""
        return not (self.branches_BT > 0).any()


def make_rows(questions: Sequence[Question], seq_len: int) -> list[Row]:
    """Every question's choices in one row where it fits, else in rows of their own."""
    rows, owner = [], 0
    for question in questions:
        together = lay(question.sequences, question.starts, owner)
        rows += [together] if len(together) <= seq_len else single_rows(question, owner)
        owner += len(question.sequences)
    return rows


def single_rows(question: Question, owner: int = 0) -> list[Row]:
    """A row for each sequence of a question."""
    pairs = zip(question.sequences, question.starts, strict=True)
    return [lay([tokens], [start], owner + i) for i, (tokens, start) in enumerate(pairs)]


def lay(sequences: Sequence[np.ndarray], starts: Sequence[int], first_owner: int) -> Row:
    """One row: what all sequences begin with, then each one's own tail. Their last tokens foretell nothing."""
    n_shared = min(common_length(sequences), max(map(len, sequences)) - 1)
    tokens, positions, branches = [sequences[0][:n_shared]], [np.arange(n_shared)], [np.zeros(n_shared, dtype=np.int64)]
    places, targets, owners = [], [], []
    n_row = n_shared
    for i, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        tail = sequence[n_shared:-1]
        foretold_at = np.arange(start, len(sequence)) - 1
        places.append(np.where(foretold_at < n_shared, foretold_at, foretold_at - n_shared + n_row))
        targets.append(sequence[start:])
        owners.append(np.full(len(foretold_at), first_owner + i))
        tokens.append(tail)
        positions.append(n_shared + np.arange(len(tail)))
        branches.append(np.full(len(tail), i + 1 if len(sequences) > 1 else 0))
        n_row += len(tail)
    return Row(
        tokens_T=np.concatenate(tokens),
        positions_T=np.concatenate(positions),
        branches_T=np.concatenate(branches),
        places_S=np.concatenate(places),
        targets_S=np.concatenate(targets),
        owners_S=np.concatenate(owners),
    )


def batches(rows: Sequence[Row], batch_size: int) -> list[list[Row]]:
    """Rows of like length together, so that little is filled up."""
    ordered = sorted(rows, key=len)
    return [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]


def stack(rows: Sequence[Row]) -> Batch:
    """Fill the rows up to the longest."""
    longest = max(map(len, rows))

    def filled(arrays: Sequence[np.ndarray], value: int) -> np.ndarray:
        return np.stack([np.pad(array, (0, longest - len(array)), constant_values=value) for array in arrays])

    return Batch(
        tokens_BT=filled([row.tokens_T for row in rows], 0),
        positions_BT=filled([row.positions_T for row in rows], 0),
        branches_BT=filled([row.branches_T for row in rows], _NO_BRANCH),
        rows_S=np.concatenate([np.full(len(row.places_S), i) for i, row in enumerate(rows)]),
        places_S=np.concatenate([row.places_S for row in rows]),
        targets_S=np.concatenate([row.targets_S for row in rows]),
        owners_S=np.concatenate([row.owners_S for row in rows]),
    )
