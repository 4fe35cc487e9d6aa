"""The parts of a recurrent forecaster: each field is one choice, one word in the pipeline file, one argument in Python.

`config_rules.refusals` says which choices do not go together, and why.
"""

from typing import Final, Literal

from pydantic import Field

from rnnforecast.config_section import Section

Cell = Literal["rnn", "lstm", "gru"]
Scaling = Literal["none", "standard", "mean", "ewm", "robust", "last", "revin", "offset"]
Transform = Literal["none", "log", "asinh"]
Base = Literal["none", "naive", "profile", "moved", "linear"]
Decoder = Literal["direct", "seq2seq", "attention", "parallel", "autoregressive"]
HeadName = Literal["quantiles", "point", "gaussian", "student_t", "negative_binomial"]


class Parts(Section):
    """What a network is made of."""

    cell: Cell = Field("gru", description="The recurrence: `rnn` (vanilla), `lstm`, `gru`.")
    activation: Literal["tanh", "relu"] = Field("tanh", description="Of the vanilla rnn.")
    hidden_size: int = Field(64, ge=1, le=4096, description="Units of the recurrent state, per layer.")
    num_layers: int = Field(1, ge=1, le=16, description="Stacked recurrent layers.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout between stacked layers, and before the output layer.")
    residual: bool = Field(False, description="Add each stacked layer's input to its output.")
    skip: bool = Field(
        False, description="Add a linear image of each step's inputs to its state, past the gates, for the decoder."
    )
    reader_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Units of a network of two layers that reads a cutoff's inputs beside the recurrence, for the "
        "decoder; 0: none.",
    )
    local_size: int = Field(
        0,
        ge=0,
        le=4096,
        description="Units of a network of two layers, the same for all steps ahead, that corrects each by the naive "
        "forecasts and the earlier cycles around it, in the light of the context; 0: none.",
    )
    bidirectional: bool = Field(False, description="Read the window from both ends (window models only).")
    start: Literal["zero", "learned", "static"] = Field(
        "zero", description="State before the first step: zero, learned, or from static covariates (or the embedding)."
    )
    init: Literal["default", "orthogonal", "identity"] = Field(
        "default", description="Recurrent weights at first; `identity` with zero bias is IRNN (Le et al. 2015)."
    )
    forget_bias: float = Field(0.0, description="Bias of the LSTM's forget gate at first; 1 remembers from the start.")

    context_length: int | None = Field(
        None, ge=2, description="Steps of a window model, read anew for every forecast; absent: one carried recurrence."
    )
    patch_length: int = Field(1, ge=1, description="Steps read as one segment (SegRNN, Lin et al. 2023); 1: each step.")
    lags: tuple[int, ...] | Literal["seasons", "cycles"] = Field(
        "seasons",
        description="Values so many steps before the next one are inputs; `seasons`: each season; `cycles`: all of the "
        "shortest season, and of longer ones what lies before each step of the horizon.",
    )
    embedding_size: int = Field(0, ge=0, le=256, description="Learned numbers per series; 0: none.")

    scaling: Scaling = Field(
        "robust",
        description="Units: none, standard (training span), offset (the last value, in the training span's deviation), "
        "mean (running), ewm (running level and spread), robust (running medians of seasons); of a window: last (value "
        "and deviation), revin (mean and deviation).",
    )
    transform: Transform = Field("none", description="What is done to the target before scaling.")
    base: Base = Field(
        "naive",
        description="What the network corrects: none, or a learned convex mix of naive forecasts; `profile` adds the "
        "mean seasonal profile; `linear` is a linear map of the window, solved by ridge regression.",
    )
    mix: Literal["cutoff", "step"] = Field(
        "cutoff", description="Weights of that mix: the same for all steps of a forecast, or others for each step."
    )

    decoder: Decoder = Field(
        "direct",
        description="From state to forecast: direct (all steps at once), seq2seq, attention, parallel (by segments), "
        "autoregressive (sample paths).",
    )
    attention: Literal["additive", "dot"] = Field("additive", description="Score of the attention decoder.")
    attention_length: int = Field(48, ge=2, le=4096, description="Newest encoder steps that attention looks over.")
    teacher_forcing_ratio: float = Field(
        0.0, ge=0, le=1, description="Share of decoder steps fed with the actual value, when training begins."
    )
    teacher_forcing_schedule: Literal["constant", "linear", "exponential", "inverse_sigmoid"] = Field(
        "linear", description="How that share falls over the training (scheduled sampling, Bengio et al. 2015)."
    )
    sample_paths: int = Field(100, ge=2, le=10_000, description="Paths of the autoregressive decoder.")

    head: HeadName = Field(
        "quantiles", description="What is forecast: quantiles, a point, or a distribution's parameters."
    )
    loss: Literal["mae", "mse", "huber"] = Field("mae", description="Of the point head.")
    conformal: bool = Field(
        False,
        description="Move each quantile by what it was off by on the validation span, step by step, in widths of the "
        "forecast (conformalised quantile regression, Romano et al. 2019); a point's are made so anyway.",
    )


DEFAULTS: Final = {name: field.default for name, field in Parts.model_fields.items()}
