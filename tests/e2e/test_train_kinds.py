"""Runs that ask for more than the defaults: Muon, wsd, an untied head; stopped, gone on, and the same to the bit."""

from pathlib import Path

import pytest
import torch
from training import by_name, here, losses, records, weights

from dataprep.errors import DataError

KIND = ("--optimizer", "muon", "--schedule", "wsd", "--head", "untied")
EIGHT_STEPS, SIXTEEN_STEPS = ("--tokens", "4096"), ("--tokens", "8192")


def test_a_muon_run_that_stopped_goes_on_to_the_same_weights(root: Path) -> None:
    here(*KIND, "--run", "whole", *SIXTEEN_STEPS)
    here(*KIND, "--run", "parts", *EIGHT_STEPS)
    by_name("parts", *SIXTEEN_STEPS)
    assert losses(root, "parts") == losses(root, "whole")
    assert losses(root, "whole")[-1] < losses(root, "whole")[0] - 0.5
    of_parts, of_whole = weights(root, "parts"), weights(root, "whole")
    assert of_parts.keys() == of_whole.keys() >= {"head.weight", "embedding.weight"}
    assert all(torch.equal(of_parts[name], of_whole[name]) for name in of_whole)
    begun = records(root, "parts", "start")[1]
    assert (begun["optimizer"], begun["schedule"], begun["model"]["tied"]) == ("muon", "wsd", False)
    rates = [[record["lr"] for record in records(root, run, "step")] for run in ("whole", "parts")]
    assert rates[0] == rates[1]
    assert sorted(rates[0]) == rates[0]  # the plan is longer than this: up, then at the peak


@pytest.mark.usefixtures("root")
def test_the_head_cannot_change_while_a_run_goes_on() -> None:
    here("--run", "base", *EIGHT_STEPS)
    with pytest.raises(DataError, match="another model"):
        here("--run", "base", "--head", "untied", *SIXTEEN_STEPS)
