"""Following the data: a model with the carried states of all its series. New rows in, forecasts out.

What a stream forecasts is what a single pass over all rows would, in whatever order they came and however they were
divided. A new observation costs one step of the recurrence. Shapes: B lanes (a lane is one entity, a series mostly),
C channels, n rows, T steps, H horizon, Q quantile levels, P past, K known, Z static covariates.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rnnforecast.columns import CUTOFF, MEAN, ORDINAL, SERIES_ID, STEP, TARGET, TIMESTAMP, quantile
from rnnforecast.forecast import ForecastError
from rnnforecast.nn.buffers import NOTHING
from rnnforecast.nn.lanes import Lanes
from rnnforecast.nn.sampling import predict
from rnnforecast.recurrent import RecurrentModel
from rnnforecast.stream_feed import LANES_OF_A_THREAD, feed, ordinals_of
from rnnforecast.stream_late import Change, apply, changes, remember_before
from rnnforecast.stream_rows import (
    CHANNEL,
    ENTITY,
    LANE,
    PLACE,
    Names,
    Rows,
    StreamError,
    read_rows,
    require_type,
    together,
)
from rnnforecast.stream_store import read, text_to_type, type_to_text, write
from rnnforecast.threads import blocks, side_by_side


@dataclass(frozen=True)
class Update:
    """What became of the rows of one update."""

    steps: int  # that lanes went on, missing ones in between included
    begun: int  # entities that were never seen before
    late: int  # readings at or before the newest step of their series that were not known, or not so
    too_late: pl.DataFrame  # series_id, timestamp, target: those that came after the lateness, and were left


class Stream:
    """A recurrent model that follows its series.

    >>> stream = Stream.start(model, history)     # doctest: +SKIP
    >>> stream.update(new_rows)                   # doctest: +SKIP
    >>> stream.forecast()                         # doctest: +SKIP

    A row at or before the newest step of its series is late: the series is run again from before it, as if it had come
    in time. That works up to `lateness` steps back (by default a horizon); memory and replay grow with it. A null
    says nothing: what was known stays.
    """

    def __init__(self, model: RecurrentModel, *, lateness: int | None = None) -> None:
        task = model.task
        if lateness is not None and lateness < 0:
            raise StreamError(f"lateness: expected a number of steps, 0 or more; found {lateness}")
        self.model, self.lateness = model, task.horizon if lateness is None else lateness
        self.names = Names(task.channels)
        self.lanes = Lanes(model.network, self.lateness)
        self.dtype: pl.DataType | None = None  # of the timestamps
        self.covariates = (*task.past, *task.known, *task.static)
        # Rows after the newest step of their series, or of one without a reading: what is known ahead.
        self.ahead: pl.DataFrame | None = None
        self.reach = torch.zeros(0, dtype=torch.int64)  # [B] ordinal of the last row of each lane
        self._index: pl.DataFrame | None = None

    @classmethod
    def start(cls, model: RecurrentModel, frame: pl.DataFrame, *, lateness: int | None = None) -> "Stream":
        """A stream that has run over a long frame. Raises FrameError, StreamError."""
        stream = cls(model, lateness=lateness)
        stream.update(frame)
        return stream

    def __len__(self) -> int:
        """How many entities it follows."""
        return len(self.names)

    @torch.inference_mode()
    def update(self, rows: pl.DataFrame, *, too_late: Literal["raise", "leave"] = "raise") -> Update:
        """Take in new rows of a long frame: any series, in any order, several steps at once, late ones too.

        A series never seen before begins; steps without a row count as missing. A late row beyond the lateness is an
        error, before anything has changed; with `too_late="leave"` it is left out and told in what is returned.
        Raises FrameError, StreamError.
        """
        frame = read_rows(rows, self.model.task, self.names)
        self._require_fit(frame)
        frame, waiting = self._with_known_ahead(frame)
        frame, new = self.names.with_lanes(frame)
        told = Rows.of(frame, self.model.task)
        begun = told.lane < len(self)
        late, left = self._late(frame, told, begun, leave=too_late == "leave")
        self.dtype = frame[TIMESTAMP].dtype
        if len(new):
            self.names.add(new)
            self._begin(told)
        remember_before(self.lanes, told[begun])
        apply(self.lanes, told, late)
        steps = feed(self.lanes, told, self.model.task)
        remember_before(self.lanes, told[~begun])
        self._keep_ahead(frame, told, waiting)
        readings = sum(len(change.row) for change in late if change.name == "filled")
        return Update(steps, len(new), readings, left)

    def _require_fit(self, frame: pl.DataFrame) -> None:
        """Refuse timestamps of another type, and readings that have no logarithm."""
        if self.dtype is not None:
            require_type(frame, self.dtype)
        if self.model.candidate.transform == "log":
            bad = frame.filter(pl.col(TARGET) <= 0).head(1)
            if len(bad):
                raise StreamError(
                    f"series of {bad[ENTITY][0]!r}, {bad[TIMESTAMP][0]}: {bad[TARGET][0]:g} has no logarithm; leave "
                    "the row out, or retrain with transform: asinh"
                )

    def _with_known_ahead(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The rows with those that were kept for later; and apart, rows of entities that have no reading yet."""
        if not self.covariates:
            return frame.drop_nulls(TARGET), None
        if self.ahead is not None:
            columns = (TIMESTAMP, TARGET, *self.covariates)
            frame = together(pl.concat([self.ahead, frame.select(self.ahead.columns)]), PLACE, columns)
        here = pl.col(ENTITY).is_in(self.names.entities.implode())
        waits = pl.col(TARGET).is_null().all().over(ENTITY) & ~here
        return frame.filter(~waits), frame.filter(waits)

    def _late(
        self, frame: pl.DataFrame, rows: Rows, begun: Tensor, *, leave: bool
    ) -> tuple[list[Change], pl.DataFrame]:
        """What the rows of lanes that have `begun` [n] change of steps that were taken already, and those that came too
        late for it."""
        mine, row = rows[begun], torch.nonzero(begun)[:, 0]
        found = changes(self.lanes, mine)
        self._require_same(frame, mine, row, found)
        if not found:
            schema = {SERIES_ID: pl.String(), TIMESTAMP: frame.schema[TIMESTAMP], TARGET: pl.Float64()}
            return [], pl.DataFrame(schema=schema)
        found = [replace(each, row=row[each.row]) for each in found]
        beyond = torch.cat([each.row[each.back > self.lateness] for each in found]).unique()
        told = frame[beyond.numpy()].select_seq(LANE, CHANNEL, TIMESTAMP, TARGET)
        names = [self.names.series(lane, channel) for lane, channel in zip(told[LANE], told[CHANNEL], strict=True)]
        told = told.select_seq(pl.Series(SERIES_ID, names, dtype=pl.String), TIMESTAMP, TARGET)
        if len(told) and not leave:
            back = max(int(each.back.max()) for each in found)
            raise StreamError(
                f"series {told[SERIES_ID][0]!r}, {told[TIMESTAMP][0]}: a row that changes what was taken more than "
                f"{self.lateness} steps ago ({len(told)} such rows, the oldest {back} steps back), further than this "
                'stream can go back; start it with a larger `lateness`, or leave such rows out: too_late="leave"'
            )
        return [each[each.back <= self.lateness] for each in found], told

    def _require_same(self, frame: pl.DataFrame, mine: Rows, row: Tensor, found: list[Change]) -> None:
        """Refuse static covariates that change, and a second part of a step whose readings are put together; of rows
        of lanes that have begun, `row` [m] of the frame."""
        task = self.model.task
        if task.static:
            held = self.lanes.kept.static[mine.lane]
            other = torch.nonzero(~mine.static.isnan() & (mine.static != held))
            if len(other):
                at, column = other[0].tolist()
                raise StreamError(
                    f"series {self._name(mine, at)!r}: static covariate `{task.static[column]}` was "
                    f"{float(held[at, column]):g} when it began, found {float(mine.static[at, column]):g}; start the "
                    "stream anew"
                )
        for change in found if task.resample != "none" else ():
            held = self.lanes.held(change.name, mine.lane[change.row], change.channel, back=change.back)
            again = change.row[~held.isnan()]
            if change.name == "filled" and len(again):
                raise StreamError(
                    f"series {self._name(mine, int(again[0]))!r}, {frame[TIMESTAMP][int(row[again[0]])]}: this step "
                    f"has a reading already, and a stream cannot add to the {task.resample} of a step; give all "
                    "readings of a step in one update"
                )

    def _name(self, rows: Rows, at: int) -> str:
        return self.names.series(int(rows.lane[at]), int(rows.channel[at]))

    def _begin(self, rows: Rows) -> None:
        """Lanes for new entities, with their static covariates and embeddings."""
        task, count, total = self.model.task, self.lanes.count, len(self)
        static = torch.full((total - count, len(task.static)), torch.nan)
        order = rows.ordinal.argsort(stable=True)
        first = ordinals_of(rows[rows.read], "amin", total)
        for row in order[rows.lane[order] >= count].flip(0).tolist() if task.static else ():
            lane = int(rows.lane[row])
            if rows.ordinal[row] >= first[lane]:
                given = ~rows.static[row].isnan()
                static[lane - count, given] = rows.static[row, given]
        places = {name: place + 1 for place, name in enumerate(self.model.entities)}
        codes = [places.get(name, 0) for name in self.names.entities[count:]]
        self.lanes.begin(static, torch.tensor(codes, dtype=torch.int64))
        self.reach = torch.cat([self.reach, torch.full((total - count,), NOTHING)])

    def _keep_ahead(self, frame: pl.DataFrame, rows: Rows, waiting: pl.DataFrame | None) -> None:
        """What is known of steps that are still to come stays until they do."""
        if waiting is None:
            return
        self.reach.scatter_reduce_(0, rows.lane, rows.ordinal, "amax")
        later = rows.ordinal > self.lanes.kept.newest[rows.lane]
        self.ahead = pl.concat([frame.filter(pl.Series(later.numpy())).select(waiting.columns), waiting])

    @torch.inference_mode()
    def forecast(self) -> pl.DataFrame:
        """Forecast every series from its newest step, in the order in which they began.

        Returns a forecast frame: series_id, cutoff, timestamp, step, mean, q0.1, ...; the channels of an entity from
        the newest step of any of them, once each has been read. Raises ForecastError where known covariates do not
        reach over the horizon.
        """
        task, net, channels = self.model.task, self.model.network, len(self.names.channels) or 1
        means = torch.empty(len(self) * channels, task.horizon, dtype=torch.float64)
        quantiles = torch.empty(len(task.quantile_levels), *means.shape, dtype=torch.float64)
        known = self._known_ahead()

        def forecast_block(which: slice) -> None:
            encoding = self.lanes.encoding(which, known[which])
            at = torch.zeros(which.stop - which.start, 1, dtype=torch.int64)
            state = self.lanes.state(which, self.lanes.kept.newest[which] + 1) if net.config.sampled else None
            mean, found = predict(net, encoding, at, state=state)
            rows = slice(which.start * channels, which.stop * channels)
            means[rows], quantiles[:, rows] = mean[:, 0], found[:, 0].movedim(-1, 0)

        side_by_side(forecast_block, blocks(len(self), LANES_OF_A_THREAD, least=LANES_OF_A_THREAD))
        return self._frame(means, quantiles)

    def save(self, folder: str | Path) -> None:
        """Write the states of all series into a folder: safetensors and JSON, no pickle."""
        settings = {
            "lateness": self.lateness,
            "timestamps": type_to_text(self.dtype),
            "entities": self.names.entities.to_list(),
            "ahead": None if self.ahead is None else self.ahead.drop(TIMESTAMP).to_dict(as_series=False),
        }
        write(Path(folder), self.model, {**self.lanes.tensors(), "reach": self.reach}, settings)

    @classmethod
    def load(cls, folder: str | Path, model: RecurrentModel) -> "Stream":
        """The stream that `save` wrote, of the same model. Raises StreamError where it is another model version."""
        states, settings = read(Path(folder), model)
        stream = cls(model, lateness=settings["lateness"])
        stream.dtype = text_to_type(settings["timestamps"])
        stream.names.add(pl.Series(ENTITY, settings["entities"], dtype=pl.String))
        stream.reach = states.pop("reach")
        stream.lanes.restore(states)
        if settings["ahead"] is not None:
            numbers = dict.fromkeys((TARGET, *stream.covariates), pl.Float64)
            schema = {**numbers, ENTITY: pl.String, CHANNEL: pl.Int64, ORDINAL: pl.Int64}
            ahead = pl.DataFrame(settings["ahead"], schema_overrides=schema)
            stamps = stream._stamps(ahead[ORDINAL].to_torch()).rename(TIMESTAMP)
            stream.ahead = ahead.select(stamps, pl.all())
        return stream

    def _known_ahead(self) -> Tensor:
        """Known covariates of the steps ahead, [B, H, K]."""
        task, newest = self.model.task, self.lanes.kept.newest[: len(self)]
        found = torch.full((len(self), task.horizon, len(task.known)), torch.nan)
        if not task.known or not len(self):
            return found
        short = torch.nonzero(self.reach - newest < task.horizon)[:, 0]
        if len(short):
            raise ForecastError(
                f"series {self.names.series(int(short[0]))!r}: known covariates reach "
                f"{int((self.reach - newest)[short[0]])} of {task.horizon} steps beyond its newest step ({len(short)} "
                "entities in all); give rows for those steps with the target left empty"
            )
        assert self.ahead is not None
        rows = Rows.of(self.names.with_lanes(self.ahead)[0].filter(pl.col(CHANNEL) == 0), task)
        rows = rows[rows.lane < len(self)]
        step = rows.ordinal - newest[rows.lane] - 1
        near = step < task.horizon
        found[rows.lane[near], step[near]] = rows.known[near]
        return found

    def _frame(self, means: Tensor, quantiles: Tensor) -> pl.DataFrame:
        """Numbers as a forecast frame; means [S, H], quantiles [Q, S, H]."""
        task, channels, count = self.model.task, len(self.names.channels) or 1, len(self)
        if self._index is None or len(self._index) != means.numel():
            # The names of the series, each as often as there are steps, are the same until a series begins.
            place = np.repeat(np.arange(len(means), dtype=np.uint32), task.horizon)
            self._index = self.names.all_series.gather(place).to_frame()
            self._index = self._index.with_columns(
                pl.Series("place", place),
                pl.Series(STEP, np.tile(np.arange(1, task.horizon + 1), len(means)), dtype=pl.Int32),
            )
        cutoff, timestamp = self._times(self.lanes.kept.newest[:count].repeat_interleave(channels))
        columns = {
            SERIES_ID: self._index[SERIES_ID],
            CUTOFF: cutoff,
            TIMESTAMP: timestamp,
            STEP: self._index[STEP],
            MEAN: means.flatten().numpy(),
        }
        for level, numbers in zip(task.quantile_levels, quantiles, strict=True):
            columns[quantile(level)] = numbers.flatten().numpy()
        frame = pl.DataFrame(columns)
        missing = self.lanes.last_values(count).isnan()
        if not missing.any():
            return frame
        return frame.filter(pl.Series((~missing.any(dim=1)).repeat_interleave(channels * task.horizon).numpy()))

    def _times(self, origin: Tensor) -> tuple[pl.Series, pl.Series]:
        """Cutoffs and timestamps of the rows of a forecast frame, of series whose newest steps are `origin` [S]."""
        steps = torch.arange(self.model.task.horizon + 1)
        if len(origin) and (origin == origin[0]).all():  # the same for all, as after most updates: worked out once
            stamps = self._stamps(origin[:1] + steps)
            rows = np.tile(stamps[1:].to_physical().to_numpy(), len(origin))
            return stamps.new_from_index(0, len(rows)), pl.Series(rows).cast(stamps.dtype)
        assert self._index is not None
        return self._stamps(origin).gather(self._index["place"]), self._stamps(origin[:, None] + steps[1:])

    def _stamps(self, ordinals: Tensor) -> pl.Series:
        return self.model.task.frequency.stamps(pl.Series(ordinals.flatten().numpy()), self.dtype or pl.Int64())
