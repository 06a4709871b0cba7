"""Verify: every invariant, PASS or FAIL by name. A verb.

In:  everything generated under the root. Out: one line an invariant; exit 3 when any fails.
Holds: it only reads (tokens.db, which is derived, is rebuilt when stale), and mends nothing.
Run: python -m dataprep.verify, or with --full to hash every byte and recount every end token
"""

import argparse

from dataprep.checks import Finding, check_data
from dataprep.console import print_json, print_next
from dataprep.errors import DataError, Parser, as_typed, run
from dataprep.paths import find_paths

_SHOWN_FAULTS = 5


def main(argv: list[str] | None = None) -> int:
    """Check and report."""
    args = _parse(argv)
    from dataprep.plan_checks import check_plans

    paths = find_paths()
    if not (paths.data.exists() or paths.runs.exists()):
        raise DataError(
            f"there is nothing to check in {paths.root}",
            seen="neither data/ nor runs/",
            wanted="the folder that make shards was run in",
            fix="cd there, or export DATAPREP_ROOT=/that/folder",
        )
    findings = [*check_data(paths, full=args.full), *check_plans(paths, full=args.full)]
    failed = [finding for finding in findings if not finding.passed]
    if args.json:
        print_json([vars(f) | {"passed": f.passed} for f in findings])
    else:
        for finding in findings:
            _print(finding)
        print(f"{len(findings) - len(failed)} of {len(findings)} invariants hold")
        if not args.full:
            print_next("python -m dataprep.verify --full   # hashes every byte")
    return DataError.exit_code if failed else 0


def _print(finding: Finding) -> None:
    print(f"{'PASS' if finding.passed else 'FAIL'}  {finding.name}  ({finding.compared})")
    for fault in finding.faults[:_SHOWN_FAULTS]:
        print(f"      {fault}")
    if len(finding.faults) > _SHOWN_FAULTS:
        print(f"      … and {len(finding.faults) - _SHOWN_FAULTS:,} more: see --json")
    for fix in finding.fixes[:_SHOWN_FAULTS]:
        print(f"      fix:  {as_typed(fix)}")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m dataprep.verify", description="Check every invariant of what is on disk.")
    parser.add_argument("--full", action="store_true", help="hash every byte, recount every end token")
    parser.add_argument("--json", action="store_true", help="findings for machines")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
