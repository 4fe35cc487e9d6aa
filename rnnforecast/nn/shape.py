"""Everything that decides a network's shape: the parts that were chosen, and the task's numbers."""

from dataclasses import dataclass

from rnnforecast.config_parts import Parts

BLOCK_WITHOUT_SEASON = 8
PROFILE_CYCLES = 4  # seasons, at least, that a mean seasonal profile is taken over
MOVED_CYCLES = 4  # seasons, at most, that a moved profile is the mean of
SHORTEST_WINDOW = 32  # steps; below it a spread is too noisy to be a unit


@dataclass(frozen=True)
class NetworkConfig:
    """The parts of a network and the sizes of what goes in and out."""

    parts: Parts
    horizon: int
    quantile_levels: tuple[float, ...]
    seasons: tuple[int, ...]
    periods: tuple[float, ...] = ()  # calendar cycles in steps
    past: int = 0
    known: int = 0
    static: int = 0
    channels: int = 1
    series: int = 0  # how many have an embedding of their own

    @property
    def block(self) -> int:
        """Steps of one block of the level and spread: the shortest season, or eight where there is none."""
        return self.seasons[0] if self.seasons[0] > 1 else BLOCK_WITHOUT_SEASON

    @property
    def blocks(self) -> int:
        """How many blocks: enough for the longest season, and for 32 steps."""
        return -(-max(*self.seasons, SHORTEST_WINDOW) // self.block)

    @property
    def lags(self) -> tuple[int, ...]:
        """Values so many steps before the next one are inputs."""
        if self.parts.lags == "seasons":
            return tuple(season for season in self.seasons if season > 1)
        if self.parts.lags == "cycles":
            repeated = tuple(season for season in self.seasons if season > 1)
            spans = [range(max(1, season - self.horizon + 1), season + 1) for season in repeated[1:]]
            return tuple(sorted({*range(1, min(repeated, default=0) + 1), *(lag for span in spans for lag in span)}))
        return self.parts.lags

    @property
    def window(self) -> int:
        """Steps of a window model; 0: the recurrence is carried."""
        return self.parts.context_length or 0

    @property
    def looks_again(self) -> bool:
        """Whether inputs are looked at when a forecast is made, not only when a step is read."""
        return bool(self.window or self.parts.reader_size)

    @property
    def reach(self) -> int:
        """Steps before the newest one whose covariates are looked at together with it."""
        return max(self.window, self.parts.patch_length) - 1

    @property
    def memory(self) -> int:
        """M: steps that the state remembers."""
        cycles = PROFILE_CYCLES * self.seasons[0] if self.parts.base == "profile" and self.seasons[0] > 1 else 0
        if self.parts.base == "moved" and max(self.seasons) > 1:
            cycles = MOVED_CYCLES * max(self.seasons) + min(season for season in self.seasons if season > 1)
        return max(self.block * self.blocks, self.reach + max((1, *self.lags)), cycles)

    @property
    def linear_steps(self) -> int:
        """L: steps that the linear base is a map of; 0 where the base is another."""
        return (self.window or self.memory) if self.parts.base == "linear" else 0

    @property
    def attended(self) -> int:
        """A: past outputs of the carried encoder that attention may look at."""
        return self.parts.attention_length if self.parts.decoder == "attention" and not self.window else 0

    @property
    def sampled(self) -> bool:
        """Whether forecasts are sample paths, one step learned and many drawn."""
        return self.parts.decoder == "autoregressive"

    @property
    def learned_horizon(self) -> int:
        """Steps that one decoding forecasts."""
        return 1 if self.sampled else self.horizon

    @property
    def statics(self) -> int:
        """G: numbers that describe a series as a whole."""
        return self.static + self.parts.embedding_size

    @property
    def covariates(self) -> int:
        """F: covariates of one step."""
        return 2 * len(self.periods) + self.past + self.known

    @property
    def numbers_per_cutoff(self) -> int:
        """About how many numbers one decoding holds per cutoff: what memory is planned with."""
        parts = self.parts
        forecast = self.channels * self.horizon * len(self.quantile_levels) * 4
        looked_at = (self.attended + self.window) * parts.hidden_size * 2
        drawn = parts.sample_paths * self.channels * (self.memory * 10 + self.horizon) if self.sampled else 0
        read = 4 * (parts.reader_size + self.channels * self.learned_horizon * parts.local_size)
        return forecast + looked_at + drawn + read
