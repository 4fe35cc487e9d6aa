"""The decoder that a word of the pipeline file means."""

from rnnforecast.nn.decoder import DirectDecoder
from rnnforecast.nn.decoder_parallel import ParallelDecoder
from rnnforecast.nn.decoder_recurrent import RecurrentDecoder
from rnnforecast.nn.head_base import Head
from rnnforecast.nn.shape import NetworkConfig

PARALLEL_SEGMENT = 12  # steps, of a parallel decoder over an encoder without segments

Decoder = DirectDecoder | ParallelDecoder | RecurrentDecoder


def build(config: NetworkConfig, head: Head, *, context_size: int) -> Decoder:
    """The decoder that the parts name, from contexts of so many numbers."""
    found = _of_parts(config, head, context_size)
    found.outer.dropout = config.parts.dropout
    return found


def _of_parts(config: NetworkConfig, head: Head, size: int) -> Decoder:
    parts = config.parts
    if parts.decoder in ("seq2seq", "attention"):
        return RecurrentDecoder(
            size,
            cell=parts.cell,
            activation=parts.activation,
            channels=config.channels,
            outputs=head.outputs,
            known=config.known,
            location=head.location,
            attention=parts.attention if parts.decoder == "attention" else None,
        )
    if parts.decoder == "parallel":
        segment = parts.patch_length if parts.patch_length > 1 else min(PARALLEL_SEGMENT, config.horizon)
        return ParallelDecoder(
            size,
            config.horizon,
            segment=segment,
            channels=config.channels,
            outputs=head.outputs,
            known=config.known,
            cell=parts.cell,
            activation=parts.activation,
        )
    return DirectDecoder(
        size,
        config.learned_horizon,
        channels=config.channels,
        outputs=head.outputs,
        known=config.known,
    )
