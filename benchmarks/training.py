"""Cutoffs forecast and learned from per second: one pass, windows, a bare loop and the peers, side by side.

One layer of 64, context 168, horizon 48, 400 series of 1,000 hours; an LSTM, or a GRU (`--cell gru`). Of ours: `plain`
sees the value alone and learns by L1, like the bare loop and the peers; `defaults` is what a user gets, with lags,
calendar, the naive base and three quantiles. A windowed step is 256 windows everywhere. Setting up a training is not
counted, of nobody.
"""

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import rounds
from benchmarks.rounds import KEEP_MEMORY, ROOT, Apart, Figures, Side

PEERS: Final = ("neuralforecast", "darts", "gluonts")
# An allocator that keeps its memory, and numbers too small to be normal as zero: what a user could set for them.
SETTINGS: Final[dict[str, tuple[dict[str, str], bool]]] = {
    "as it comes": ({}, False),
    "memory kept": (KEEP_MEMORY, False),
    "memory kept, no denormals": (KEEP_MEMORY, True),
}
ENVIRONMENTS: Final = ROOT / ".venv-peers"


def training(given: list[str]) -> dict[str, Any]:
    """Rates, and the ratios to the fastest bare loop."""
    parser = rounds.options("training", __doc__)
    parser.add_argument("--steps", type=int, default=12, help="windowed steps of a round, 12; thrice as many one-pass")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=None, help="those whose environments are there")
    parser.add_argument(
        "--cell", choices=("lstm", "gru"), default="lstm", help="gru: of ours and of the bare loop alone"
    )
    options = parser.parse_args(given)
    facts = rounds.machine(options.threads)
    common = {"threads": options.threads, "steps": options.steps, "cell": options.cell}
    peers = installed() if options.peers is None else options.peers
    with ExitStack() as open_:
        sides: dict[str, Side] = {}
        for name, (environment, flush) in SETTINGS.items():
            settings = {**common, "flush": flush}
            one = Apart("benchmarks.bare:bare", settings, environment=environment, threads=options.threads)
            sides[f"bare, {name}"] = open_.enter_context(one)
        for mode in ("windowed", "one pass"):
            for network in ("plain", "defaults"):
                sides[f"ours, {mode}, {network}"] = open_.enter_context(_ours(mode, network, **common))
        found = rounds.take_turns(sides, options.rounds)
    done = {**facts, "cutoffs learned from per second": _rates(found)}
    bare = {name: median(rounds.pick(each, "per second")) for name, each in found.items() if name.startswith("bare")}
    best = max(bare, key=lambda name: bare[name])
    done[f"ratio to the fastest bare loop ({best})"] = _ratios(found, best)
    for peer in peers if options.cell == "lstm" else ():
        done[peer] = _against(peer, rounds_=options.rounds, **common)
    if options.cell == "lstm" and not installed():
        done["peers"] = "no environments: make bench-peers"
    return done


def _against(peer: str, *, rounds_: int, threads: int, steps: int, cell: str) -> dict[str, Any]:
    """A peer as it comes and with both settings, in turn with ours over windows."""
    with ExitStack() as open_:
        sides: dict[str, Side] = {
            "ours": open_.enter_context(_ours("windowed", "plain", threads=threads, steps=steps, cell=cell))
        }
        for name, (environment, flush) in SETTINGS.items():
            side = peer_side(peer, "training", {"steps": steps, "flush": flush}, environment, threads)
            sides[name] = open_.enter_context(side)
        found = rounds.take_turns(sides, rounds_)
    over = rounds.pick(found["ours"], "per second")
    ratios = {name: _told(over, rounds.pick(found[name], "per second")) for name in SETTINGS}
    return {"windows learned from per second": _rates(found), "ours to it": ratios}


def peer_side(peer: str, function: str, settings: dict[str, Any], environment: dict[str, str], threads: int) -> Apart:
    """A side in a peer's own environment."""
    file = Path(__file__).parent / "peers" / f"{peer}_side.py"
    python = ENVIRONMENTS / peer / "bin" / "python"
    return Apart(f"{file}:{function}", settings, environment=environment, threads=threads, python=python)


def installed() -> list[str]:
    """The peers that `make bench-peers` has set up."""
    return [name for name in PEERS if (ENVIRONMENTS / name / "ready").exists()]


def ours(mode: str, network: str, *, threads: int, steps: int, cell: str) -> Side:
    """Our training, as a side: settings of allocator and processor are its own."""
    import torch

    from benchmarks.ours import Fits

    torch.set_num_threads(threads)
    fits = Fits(mode, network, cell=cell)
    cutoffs = fits.cutoffs_per_step()
    steps = steps if mode == "windowed" else 3 * steps

    def side() -> Figures:
        seconds = fits.seconds_per_step(steps)
        return {"seconds": seconds, "per second": cutoffs / seconds}

    return side


def _ours(mode: str, network: str, *, threads: int, **settings: Any) -> Apart:
    settings |= {"mode": mode, "network": network, "threads": threads}
    return Apart("benchmarks.training:ours", settings, threads=threads)


def _rates(found: dict[str, list[Figures]]) -> dict[str, int]:
    return {name: round(median(rounds.pick(each, "per second"))) for name, each in found.items()}


def _ratios(found: dict[str, list[Figures]], under: str) -> dict[str, str]:
    base = rounds.pick(found[under], "per second")
    return {name: _told(rounds.pick(each, "per second"), base) for name, each in found.items() if name != under}


def _told(over: list[float], under: list[float]) -> str:
    found = rounds.ratio(over, under)
    return f"{found['median']} ({found['least']} to {found['greatest']})"
