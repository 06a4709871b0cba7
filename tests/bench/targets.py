"""The targets that benches are held to, as data in one place. Nothing here fails a test.

In:  a bench's figures by key. Out: verdicts: met, missed, or not measured.
Holds: a target whose figure is missing is "not measured", never silently met.
"""

from typing import NamedTuple


class Target(NamedTuple):
    """`figure` of `bench` should be at least, or at most, `wanted`."""

    bench: str
    figure: str
    at: str  # "least" or "most"
    wanted: float
    text: str


TARGETS = (
    Target("encode", "times tiktoken pool", "least", 10, "at least 10x the tiktoken pool"),
    Target("encode", "times nanogpt", "least", 25, "at least 25x nanoGPT's datasets.map"),
    Target("encode", "times datatrove", "least", 25, "at least 25x datatrove"),
    Target("encode", "times dolma", "least", 25, "at least 25x dolma"),
    Target("encode", "times plain gigatoken", "least", 1.3, "at least 1.3x the plain gigatoken script"),
    Target("encode", "MB per second", "least", 150, "150 MB of text per second"),
    Target("encode", "peak MB", "most", 1_000, "under 1 GB of memory"),
    Target("load", "share of copy ceiling", "least", 0.25, "at least 0.25 of the copy ceiling"),
    Target("load", "times dataloader", "least", 4, "at least 4x DataLoader over a memmap"),
    Target("load", "times litdata", "least", 4, "at least 4x litdata"),
    Target("load", "times datatrove", "least", 3, "at least 3x datatrove"),
    Target("load", "times nanogpt", "least", 8, "at least 8x nanoGPT's get_batch"),
    Target("load", "resume ms", "most", 10, "resume within 10 ms at any depth"),
    Target("pack", "lognormal seconds", "most", 1, "1M web lengths in under 1 s"),
    Target("pack", "chat seconds", "most", 1, "1M chat lengths in under 1 s"),
    Target("pack", "lognormal fill percent", "least", 99.9, "web rows at least 99.9 % full"),
    Target("pack", "chat fill percent", "least", 99.9, "chat rows at least 99.9 % full"),
    Target("pack", "times olmo", "least", 20, "at least 20x OLMo-core's planner"),
    Target("pack", "100B plan seconds", "most", 60, "a plan for 100B tokens in under 60 s"),
    Target("pack", "100B plan GB", "most", 4, "a plan for 100B tokens in under 4 GB"),
    Target("start", "slowest help seconds", "most", 0.5, "--help of every command in under 0.5 s"),
    Target("start", "rebuild 1,823 seconds", "most", 1, "tokens.db from 1,823 receipts in under 1 s"),
    Target("start", "rebuild 100,000 seconds", "most", 20, "tokens.db from 100,000 receipts in under 20 s"),
)


def verdicts(bench: str, figures: dict[str, float]) -> list[dict]:
    """One line per target of `bench`."""
    return [_verdict(target, figures.get(target.figure)) for target in TARGETS if target.bench == bench]


def _verdict(target: Target, found: float | None) -> dict:
    if found is None:
        return {"target": target.text, "found": None, "verdict": "not measured"}
    met = found >= target.wanted if target.at == "least" else found <= target.wanted
    return {"target": target.text, "found": float(f"{found:.4g}"), "verdict": "met" if met else "missed"}
