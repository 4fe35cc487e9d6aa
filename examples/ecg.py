"""What a unit watches: an LSTM forecasts the next reading of an ECG; what do its units and gates do meanwhile?

The data: 5 minutes of record 208 of the MIT-BIH arrhythmia database (Moody and Mark 2001), 360 readings a second, each
four averaged. Trained on the first four fifths, the state carried on, the gradient cut every 2 seconds.
"""

from pathlib import Path

import polars as pl
import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

from rnnforecast.nn import Recurrence
from rnnforecast.nn.cell import trace


def beat_phase(values: Tensor) -> Tensor:
    """How far each step [T] is on its way from one heart beat, a steepest place of the ECG, to the next: 0 to 1."""
    steep = nn.functional.pad((values[2:] - values[:-2]).abs(), (1, 1))
    crest = nn.functional.max_pool1d(steep[None], 55, 1, 27)[0]  # the steepest within 0.3 s to both sides
    beats = ((steep == crest) & (steep > 0.35 * steep.quantile(0.995))).nonzero()[:, 0]
    place = torch.bucketize(torch.arange(len(values)), beats[1:-1], right=True)
    return ((torch.arange(len(values)) - beats[place]) / (beats[place + 1] - beats[place])).clamp(0, 1)


def followed(units: Tensor, phase: Tensor) -> Tensor:
    """Share of each unit's variance that the phase of the beat explains (by means of 20 places); units [T, D]."""
    place = (phase * 20).long().clamp(max=19)
    return torch.stack([units[place == one].mean(0) for one in range(20)])[place].var(0) / units.var(0)


def learn(recurrence: Recurrence, readout: nn.Linear, values: Tensor, passes: int) -> None:
    """Truncated back-propagation through time: forecast each next value, the state carried on and detached."""
    lanes = values[: len(values) // 24 * 24].reshape(24, -1, 1)
    optimiser = torch.optim.Adam([*recurrence.parameters(), *readout.parameters()], 3e-3)
    for _ in range(passes):
        state = recurrence.initial(24)
        for chunk, ahead in zip(lanes[:, :-1].split(180, 1), lanes[:, 1:].split(180, 1), strict=True):
            outputs, state = recurrence(chunk, (state[0].detach(), state[1].detach()))
            optimiser.zero_grad()
            nn.functional.mse_loss(readout(outputs), ahead).backward()
            optimiser.step()


def main(data: Path, small: bool = False, out: Path = Path(__file__).parent / "figures") -> dict[str, float]:
    """Save the figure in the folder `out`, print and return what was found; `small` is a quick run."""
    values = pl.read_parquet(data)["y"].to_torch().reshape(-1, 4).mean(1)[: 7200 if small else None]
    cut, found = len(values) * 4 // 5, {}
    values = (values - values[:cut].mean()) / values[:cut].std()
    phase, shown, second = beat_phase(values), slice(cut + 200, cut + 650), torch.arange(450) / 90
    torch.manual_seed(0)
    recurrence, readout = Recurrence(1, 32, cell="lstm"), nn.Linear(32, 1)
    for when, passes in (("untrained", 0), ("trained", 100 if small else 300)):
        learn(recurrence, readout, values[:cut], passes)
        seen = trace(recurrence, inputs := values[None, :, None].clone().requires_grad_())
        hidden, forget = (part[0, :, 0].detach() for part in (seen.hidden, seen.gates["forget"]))
        order = followed(hidden[:cut], phase[:cut]).argsort(descending=True)  # chosen where it trained, judged after it
        found[when] = followed(hidden[cut:], phase[cut:])[order[0]].item()
    forecasts = readout(seen.hidden[0, :, 0])[:, 0]
    found["ecg"] = followed(values[cut:], phase[cut:]).item()
    found["error / last value's"] = ((forecasts[cut:-1] - values[cut + 1 :]).var() / values[cut:].diff().var()).item()
    forecasts[shown.stop - 1].backward()
    slope = inputs.grad[0, : shown.stop, 0].abs()
    found["reach"] = int((slope.flip(0).cumsum(0) < 0.9 * slope.sum()).sum()) + 1
    ecg, unit, units, gradient = (figure := Figure((9, 7), layout="constrained")).subplots(4, 1, sharex=True)
    ecg.plot(second, values[shown], "black"), ecg.vlines(second[phase[shown] == 0], -1, 3, "red", linewidth=0.5)
    unit.plot(second, hidden[shown, order[0]], second, forget[shown, order[0]])
    units.imshow(hidden[shown].T[order], aspect="auto", extent=(0, 5, 32, 0), cmap="coolwarm", interpolation="nearest")
    gradient.semilogy(second, slope[-450:].clamp(1e-12)), gradient.set_xlabel("seconds")
    ecg.set_ylabel("ECG, beats"), unit.set_ylabel("unit, gate"), units.set_ylabel("units"), gradient.set_ylabel("slope")
    figure.savefig(out / "ecg.png", dpi=60)
    print(", ".join(f"{name} {number:.4g}" for name, number in found.items()))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1), torch.set_flush_denormal(True)  # gradients that vanish are slow numbers, too
    typer.run(main)
