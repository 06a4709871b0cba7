"""Doctor: is this machine fit to train on? A verb.

In:  this machine, the folder under DATAPREP_ROOT. Out: a line for each check: ok, warn or FAIL, and what to do.
Holds: it only looks (--nccl starts two small processes and ends them); exit 5 when anything fails.
Run: python -m train.doctor, and on a machine with several GPUs python -m train.doctor --nccl
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from dataprep.console import print_json, print_next
from dataprep.errors import EnvironmentProblem, Parser, as_typed, run
from dataprep.paths import find_paths
from train.doctor.finding import FAIL, OK, WARN, Finding, examine
from train.preflight import Diagnosis, Trial, Variables, find_cure, known_cures, shown, try_in_children

_ANSWER_S = 20.0
_LOADING_S = 20.0  # a child loads torch and meets its peer before its own 20 s begin


def main(argv: list[str] | None = None) -> int:
    """Look at everything, and report."""
    args = _parse(argv)
    findings, n_gpus = _look()
    if args.nccl:
        findings.append(_all_reduce(n_gpus, quiet=args.json))
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
        if n_gpus > 1 and not args.nccl:
            print_next("python -m train.doctor --nccl   # do the GPUs answer each other?")
    return EnvironmentProblem.exit_code if any(finding.level == FAIL for finding in findings) else 0


def _look() -> tuple[list[Finding], int]:
    """Every check but the all-reduce; also the number of GPUs that torch can use."""
    from train.doctor import gpus, holdings, machine, packages
    from train.doctor.nvidia import look_at_driver, look_at_torch

    paths, driver, torch = find_paths(), look_at_driver(), look_at_torch()
    n_gpus, n_shards = torch.n_gpus, holdings.count_shards(paths)
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "packages": packages.check_packages,
        "torch": lambda: gpus.check_torch(torch, driver),
        "driver": lambda: gpus.check_driver(driver, n_gpus),
        "first GPU": lambda: gpus.check_kernel(n_gpus),
        "topology": lambda: gpus.check_topology(n_gpus),
        "processors": lambda: machine.check_processors(n_gpus),
        "memory": machine.check_memory,
        "shared memory": lambda: machine.check_shared_memory(n_gpus),
        "disk": lambda: machine.check_disks(paths),
        "open files": lambda: machine.check_open_files(n_shards),
        "terminal": machine.check_terminal,
        "data": lambda: holdings.check_holdings(paths),
    }
    return [finding for name, check in checks.items() for finding in examine(name, check)], n_gpus


def _all_reduce(n_gpus: int, *, quiet: bool) -> Finding:
    """Let ranks answer each other in processes of their own, under each known cure until they do."""
    backend, device, n_ranks = ("nccl", "cuda", min(n_gpus, 2)) if n_gpus else ("gloo", "cpu", 2)
    command = [sys.executable, "-c", f"from train.ranks import answer_once; answer_once({device!r})"]

    def try_once(variables: Variables) -> Trial:
        trial = try_in_children(command, variables, world_size=n_ranks, timeout_s=_LOADING_S + _ANSWER_S)
        if not (trial.answered or quiet):
            print(f"{shown(variables) or 'nothing set'}: {trial.said}", flush=True)
        return trial

    where = {0: "gloo on the CPU: there is no GPU", 1: "nccl, one rank: there is one GPU"}
    return judge_all_reduce(find_cure(backend, try_once), where.get(n_gpus, "nccl on two GPUs"), known_cures(backend))


def judge_all_reduce(diagnosis: Diagnosis, where: str, known: str) -> Finding:
    """What the trials mean, and what to type."""
    last = diagnosis.trials[-1]
    if diagnosis.is_healthy:
        return Finding(
            name="all-reduce", level=OK, seen=f"answered in {last.seconds:.1f} s with the loading of torch, {where}"
        )
    if diagnosis.cure:
        return Finding(
            name="all-reduce",
            level=FAIL,
            seen=f"answered only with {shown(diagnosis.cure)}, {where}; else: {diagnosis.trials[0].said}",
            advice=f"export {shown(diagnosis.cure)}",
        )
    return Finding(
        name="all-reduce",
        level=FAIL,
        seen=f"{diagnosis.trials[0].said}, {where}; nor with {known}",
        advice="NCCL_DEBUG=INFO python -m train.doctor --nccl tells more; another machine may be cheaper",
    )


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{finding.level:<4}  {finding.name:<{width}}  {finding.seen}")
        if finding.advice:
            print(f"      {'':<{width}}  do: {as_typed(finding.advice)}")
    counts = {level: sum(finding.level == level for finding in findings) for level in (OK, WARN, FAIL)}
    print(", ".join(f"{count} {level}" for level, count in counts.items()))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m train.doctor", description="Is this machine fit to train on? Exit 5 if not.")
    parser.add_argument("--nccl", action="store_true", help="let two ranks add up, and find what cures a hang")
    parser.add_argument("--json", action="store_true", help="findings for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
