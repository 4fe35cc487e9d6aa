"""The states of many series that are followed step by step, each with room for the steps to come.

A `State` is passed and returned, and handing one on copies the last M values of every lane. Here they lie in buffers,
and a step writes one column (`buffers.py`). Behind the newest step each lane keeps two marks, states of a while ago,
from which it is run again when a late reading comes.

Shapes: B lanes, C channels, R = B * C rows, X columns, M remembered steps, T steps, D hidden, S layers, n interleaved
recurrences, A past outputs for attention (one at least), P past and K known covariates, Z static ones.
"""

import torch
from torch import Tensor

from rnnforecast.nn import transform
from rnnforecast.nn.buffers import BUFFERS, LANES_AGAIN, NOTHING, Buffers, Which, newest_columns, write, write_many
from rnnforecast.nn.features import Past, standardised
from rnnforecast.nn.memory import State, newest, since_reading
from rnnforecast.nn.network import Encoding, Inputs
from rnnforecast.nn.scaling import Units


class Lanes(Buffers):
    """Lanes of one network. A reading may come up to `lateness` steps after the newest of its lane."""

    def advance(self, which: Which, inputs: Inputs) -> None:
        """Feed T new steps to each of these lanes, and set a mark where one is due.

        Known covariates [b, T, K] are those of the steps after.
        """
        kept, steps = self.kept, inputs.values.shape[1]
        fresh = kept.newest[which] == NOTHING
        if fresh.any():
            kept.first[which] = torch.where(fresh, inputs.ordinals[:, 0], kept.first[which])
        (self._step if steps == 1 else self._pass)(which, inputs)
        kept.newest[which] = inputs.ordinals[:, -1]
        self._count(which, steps)

    def set_marks(self, which: Which) -> None:
        """Both marks at the newest step."""
        kept = self.kept
        kept.mark_hidden[which] = kept.hidden[which][:, None]
        kept.mark_cell[which] = kept.cell[which][:, None]
        kept.mark_age[which] = 0

    def _count(self, which: Which, steps: int) -> None:
        kept = self.kept
        age = kept.mark_age[which] + steps
        kept.mark_age[which] = age
        newer = age[:, 1]
        if int(newer.max()) < self.apart:
            return
        lanes = torch.arange(self.count)[which][newer >= self.apart]
        for marks, now in ((kept.mark_hidden, kept.hidden), (kept.mark_cell, kept.cell)):
            marks[lanes] = torch.stack([marks[lanes, 1], now[lanes]], dim=1)
        kept.mark_age[lanes] = torch.stack([kept.mark_age[lanes, 1], torch.zeros_like(lanes)], dim=1)

    def _step(self, which: Which, inputs: Inputs) -> None:
        """One step: what it costs does not grow with the memory, but for the units of some scalings."""
        kept, config, net = self.kept, self.config, self.network
        at = self._room(which, 1)
        mask = inputs.mask.view(-1, config.channels)
        values = transform.forward(config.parts.transform, inputs.values).view_as(mask)
        filled = torch.where(mask, values, self._back(kept.filled, which, at, 1)[..., 0])
        since = torch.where(mask, 0, kept.since[which] + 1).clamp(max=net.memory)
        new = {"filled": filled, "observed": mask, "past": inputs.past[:, 0], "known": inputs.known[:, 0]}
        for name, column in new.items():
            write(getattr(kept, name), which, at, column)
        kept.since[which] = since
        past = self._past(which, at + 1, inputs.ordinals[:, 0])
        units = self._units(which, at + 1, past)
        kept.units[which] = torch.stack(units, dim=-1).unflatten(0, (-1, config.channels))[:, :, 0]
        encoding, after = net.read(inputs, past, units, self._state(which))
        self._put(which, after, encoding.contexts)
        kept.head[which] = at + 1

    def _pass(self, which: Which, inputs: Inputs, *, before: State | None = None, transformed: bool = False) -> None:
        """Several steps by the way of all passes; what is needed of them goes to the end of the buffers.

        `before`: the state to begin from, where these steps are in the buffers already and are run again.
        """
        kept, config = self.kept, self.config
        steps = inputs.values.shape[1]
        count = min(steps, self.needed)
        state = self.state(which, inputs.ordinals[:, 0]) if before is None else before
        encoding, after = self.network.encode(inputs, state, transformed=transformed)
        if before is None:
            self._room(which, count)
        last = kept.head[which] + (count if before is None else 0)
        filled, observed, since = (part.unflatten(0, (-1, config.channels)) for part in encoding.past[:3])
        columns = last[:, None] + torch.arange(-count, 0)
        lanes = torch.arange(self.count)[which]
        new = {"filled": filled, "observed": observed, "past": inputs.past.mT, "known": inputs.known[:, :steps].mT}
        for name, part in new.items():
            write_many(getattr(kept, name), lanes, columns, newest_columns(part, count))
        if self.blocks:
            write_many(
                kept.blocks,
                lanes,
                columns,
                self.blocks.of(*encoding.past[:2], count).unflatten(0, (-1, config.channels)).flatten(1, 2),
            )
        kept.since[which] = since[..., -1]
        kept.units[which] = torch.stack([part[:, -1] for part in encoding.units], dim=-1).view(-1, config.channels, 3)
        self._put(which, (after.hidden, after.cell), encoding.contexts)
        kept.head[which] = last

    def correct(self, name: str, lane: Tensor, channel: Tensor, *, back: Tensor, values: Tensor) -> None:
        """Put values [n] in place of what stands `back` [n] steps before the newest (0: the newest itself) of lanes.

        `name`: filled (readings, in the units of the data), past or known. `again` makes it count.
        """
        at = self.kept.head[lane] - 1 - back
        if name == "filled":
            values = transform.forward(self.config.parts.transform, values)
            self.kept.observed[lane, channel, at] = True
        getattr(self.kept, name)[lane, channel, at] = values

    def held(self, name: str, lane: Tensor, channel: Tensor, *, back: Tensor) -> Tensor:
        """What `correct` would replace, [n]: NaN where missing; readings are transformed."""
        at = (self.kept.head[lane] - 1 - back).clamp(min=0)
        found = getattr(self.kept, name)[lane, channel, at]
        return found if name != "filled" else found.where(self.kept.observed[lane, channel, at], torch.nan)

    def again(self, lanes: Tensor, back: Tensor) -> None:
        """Run lanes [b] again, so that what was corrected up to `back` [b] steps before the newest counts."""
        kept = self.kept
        age = kept.mark_age[lanes]
        from_older = (back >= age[:, 1]).long()
        groups, member = torch.unique(torch.cat([from_older[:, None], age], dim=1), dim=0, return_inverse=True)
        for number, (older, first, second) in enumerate(groups.tolist()):
            for some in lanes[member == number].split(LANES_AGAIN):
                if older:
                    self._rerun(some, 0, start=first, stop=second, ahead=first)
                    for marks, now in ((kept.mark_hidden, kept.hidden), (kept.mark_cell, kept.cell)):
                        marks[some, 1] = now[some]
                if second:
                    self._rerun(some, 1, start=second, stop=0, ahead=0 if older else second)

    def begin_earlier(self, lanes: Tensor, first: Tensor) -> None:
        """The lanes [b], none of them older than its marks, begin at the ordinals [b]: earlier than was known."""
        self.kept.first[lanes] = first
        self.kept.mark_age[lanes, 0] = self.kept.newest[lanes] - first + 1

    def _rerun(self, lanes: Tensor, mark: int, *, start: int, stop: int, ahead: int) -> None:
        """From a mark `start` steps before the newest to `stop` steps before it; the outputs that attention looks at
        are those of `ahead` steps after the mark."""
        kept = self.kept
        head, count = kept.head[lanes], start - stop
        parts = {name: self._back(getattr(kept, name), lanes, head - stop, count) for name in BUFFERS[:4]}
        inputs = Inputs(
            parts["filled"].flatten(0, 1).nan_to_num(0.0),
            parts["observed"].flatten(0, 1),
            kept.newest[lanes][:, None] + torch.arange(1 - start, 1 - stop),
            parts["past"].mT,
            parts["known"].mT,
            kept.static[lanes],
            kept.code[lanes],
        )
        contexts = kept.contexts[lanes]
        # Outputs from before the mark still stand; those that were pushed out are too old to be looked at.
        shown = contexts[:, : max(contexts.shape[1] - ahead, 0)]
        gone = contexts.new_full((len(lanes), contexts.shape[1] - shown.shape[1], contexts.shape[2]), torch.nan)
        kept.head[lanes] = head - start
        before = self.state(lanes, inputs.ordinals[:, 0])._replace(
            hidden=kept.mark_hidden[lanes, mark].transpose(0, 1),
            cell=kept.mark_cell[lanes, mark].transpose(0, 1),
            contexts=newest(torch.cat([gone, shown], dim=1), self.config.attended),
        )
        kept.head[lanes] = head - stop
        self._pass(lanes, inputs, before=before, transformed=True)
        kept.head[lanes] = head

    def state(self, which: Which, ordinals: Tensor) -> State:
        """The state of lanes before the step `ordinals` [b], as a pass takes it."""
        head, config = self.kept.head[which], self.config
        rows = [self._back(part, which, head, self.network.memory) for part in (self.kept.filled, self.kept.observed)]
        seen = self._seen(which, head, ordinals - 1, config.reach)
        return self._state(which)._replace(filled=rows[0].flatten(0, 1), observed=rows[1].flatten(0, 1), seen=seen)

    def encoding(self, which: Which, known: Tensor) -> Encoding:
        """What the newest step of lanes leaves to forecast from; known covariates of the steps ahead [b, H, K]."""
        kept, config = self.kept, self.config
        head, ordinals = self._head(which), kept.newest[which]
        past = self._past(which, head, ordinals if config.looks_again else None)
        shift, scale, level = kept.units[which].flatten(0, 1)[:, None].unbind(dim=-1)
        contexts = kept.contexts[which]
        if config.window:
            contexts = contexts[:, :0]
        elif config.attended:
            contexts = torch.cat([contexts[:, :1], contexts], dim=1)
        nothing = past.filled.new_zeros(0)
        static, code = kept.static[which], kept.code[which]
        past_covariates = past.filled.new_full((len(code), 1, config.past), torch.nan)
        known = torch.cat([known, known.new_full((len(code), 1, config.known), torch.nan)], dim=1)
        inputs = Inputs(nothing, nothing.bool(), ordinals[:, None], past_covariates, known, static, code)
        about = self.network._about(static, code)
        ahead = standardised(known, self.network.known_stats)
        return Encoding(inputs, past, Units(shift, scale, level), ahead, about, contexts, None, None)

    def _state(self, which: Which) -> State:
        kept = self.kept
        nothing = kept.filled.new_zeros(0)
        hidden, cell = kept.hidden[which].transpose(0, 1), kept.cell[which].transpose(0, 1)
        contexts = newest(kept.contexts[which], self.config.attended)
        return State(nothing, nothing.bool(), nothing, hidden, cell, contexts)

    def _put(self, which: Which, after: tuple[Tensor, Tensor], contexts: Tensor) -> None:
        found = {"hidden": after[0].transpose(0, 1), "cell": after[1].transpose(0, 1)}
        if not self.config.window:
            # Of a long pass its end alone: a view would keep all of it.
            found["contexts"] = newest(contexts, self.kept.contexts.shape[1]).contiguous()
        of_all = isinstance(which, slice) and which == slice(0, len(self.kept.code))
        for name, part in found.items():
            if of_all:  # in place of what was
                setattr(self.kept, name, part)
            else:
                getattr(self.kept, name)[which] = part

    def _past(self, which: Which, stop: int | Tensor, ordinals: Tensor | None) -> Past:
        """What one step sees that is the last before column `stop`: position M is that step. Without `ordinals`
        covariates are left out."""
        kept, count = self.kept, self.network.memory + 1
        filled, observed = (self._back(part, which, stop, count).flatten(0, 1) for part in (kept.filled, kept.observed))
        if self.config.window:
            since = since_reading(observed, self.network.memory)
        else:  # nothing but the newest is looked at
            since = kept.since[which].flatten()[:, None].expand(-1, count)
        seen = filled[:0] if ordinals is None else self._seen(which, stop, ordinals, self.config.reach + 1)
        return Past(filled, observed, since, seen)

    def _seen(self, which: Which, stop: int | Tensor, ordinals: Tensor, count: int) -> Tensor:
        """Covariates [b, count, F] of the steps up to `ordinals` [b], which is the last before column `stop`."""
        net, config = self.network, self.config
        if not config.covariates:
            return self.kept.filled.new_zeros(len(ordinals), count, 0)
        past, known = (self._back(part, which, stop, count).mT for part in (self.kept.past, self.kept.known))
        steps = ordinals[:, None] + torch.arange(1 - count, 1)
        if not config.past + config.known and bool((ordinals == ordinals[0]).all()):
            seen = net._covariates(steps[:1], past[:1], known[:1]).expand(len(steps), -1, -1)
        else:
            seen = net._covariates(steps, past, standardised(known, net.known_stats))
        if count == 1:
            return seen
        # Before the first step a pass has seen nothing, not even a calendar.
        return seen.where((steps >= self.kept.first[which][:, None])[..., None], 0.0)

    def _units(self, which: Which, stop: int | Tensor, past: Past) -> Units:
        if self.blocks is None:
            return self.network.units(past.filled, past.observed, steps=1)
        kept, blocks = self.kept, self.blocks
        filled, observed = (part.unflatten(0, (-1, self.config.channels)) for part in past[:2])
        write(kept.blocks, which, stop - 1, blocks.newest(filled, observed).flatten(1, 2))
        found = self._back(kept.blocks, which, stop, blocks.length * (blocks.number - 1) + 1)
        return blocks.units(found.unflatten(1, (-1, 2)).flatten(0, 1), past.filled[:, -1:])
