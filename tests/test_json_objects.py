"""JSON objects to columns: the fast way and the slow way give the same cells, digits included."""

import json
import re

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnnforecast.sources.json_objects import MOST_KEYS, OTHERS, PLACE, objects

KEYS = st.one_of(
    st.sampled_from(["a", "b", "#at", "", "né", 'q"uote', "line\nbreak", "a b", "x.y*", "1"]),
    st.text('ab"\\é,:{}\n', max_size=3),
)
TEXTS = st.text('ab"\\é,:{}[]\n 😀\u2028', max_size=6)
NUMBERS = st.sampled_from(
    ["0", "-0", "1.10", "1e5", "-3.50E-07", "12345678901234567890123", "0.1000000000000000055", "NaN"]
)
NESTED = st.sampled_from(['{"x": 1.5}', "[1, 2]", "[]", '[{"y": null}]'])
VALUES = st.one_of(NUMBERS, st.sampled_from(["true", "false", "null"]), TEXTS.map(json.dumps), NESTED)
BLANKS = st.sampled_from(["", " ", "\n", "\t \r\n"])
BROKEN = st.sampled_from(
    [
        "",
        " ",
        "{",
        "5",
        "[1]",
        '"x"',
        '{"a":1}{"a":2}',
        '{"a":1},{"a":2}',
        '{"a":01}',
        "{'a':1}",
        '{"a":1,}',
        '{"a":"\x01"}',
        "{}x",
        "{}",
    ]
)


@st.composite
def written(draw):
    """An object as some program might write it: its text."""
    ascii_only = draw(st.booleans())
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), max_size=4))
    blank = draw(BLANKS)
    fields = [f"{blank}{json.dumps(key, ensure_ascii=ascii_only)}{blank}:{value}" for key, value in pairs]
    return f"{blank}{{{','.join(fields)}{blank}}}"


def reference(text):
    """The cells of one text by `json` alone, or None where it holds no object."""
    try:
        read = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except ValueError:
        return None
    if not isinstance(read, dict):
        return None
    plain = json.loads(text)
    return {
        key: json.dumps(plain[key], ensure_ascii=False) if isinstance(value, dict | list | bool) else value
        for key, value in read.items()
        if value is not None and not key.startswith("#")
    }


@given(st.lists(st.one_of(written(), BROKEN), max_size=40))
@example(['{"a":1}', "{}", '{"#text":1,"b":2}', '{"#place":1}', '{"a":3}'])
@example(['{"a":1}', '{"a":2,', '"b":3}', '{"b":1,"a":"x"}', '{"a":"\\"a\\":5"}'])
def test_columns_are_what_json_reads_text_by_text(texts):
    read = objects(pl.Series(texts, dtype=pl.String))
    expected = [reference(text) for text in texts]
    assert read.frame[PLACE].to_list() == [place for place, record in enumerate(expected) if record is not None]
    assert sorted(read.wrong) == [place for place, record in enumerate(expected) if record is None]
    rows = [{k: v for k, v in row.items() if v is not None and k != PLACE} for row in read.frame.to_dicts()]
    assert rows == [record for record in expected if record is not None]


def test_ten_thousand_messages_of_one_program_keep_every_digit():
    texts = pl.Series([f'{{"who": "s{n % 7}", "value": {n}.{n % 100:02d}0}}' for n in range(10_000)])
    read = objects(texts)
    assert read.frame["value"].to_list() == [f"{n}.{n % 100:02d}0" for n in range(10_000)]
    assert read.frame["who"].n_unique() == 7
    assert read.wrong == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found nothing"),
        ("21.5", "found a single value"),
        ('[{"a": 1}]', "found a list"),
        ('{"a": 1', r"found no JSON \(Expecting ',' delimiter"),
        ("[" * 100_000, "found one nested too deep"),
        ('{"a": "\\ud800"}', "found half a character"),
        (json.dumps({str(n): n for n in range(MOST_KEYS + 1)}), f"of at most {MOST_KEYS} keys; found {MOST_KEYS + 1}"),
    ],
)
def test_what_is_no_object_is_named_and_the_others_are_read(text, found):
    read = objects(pl.Series([text, '{"a": 7}', text]))
    assert read.frame.to_dicts() == [{PLACE: 1, "a": "7"}]
    assert list(read.wrong) == [0, 2]
    assert re.search(found, read.wrong[0])


def test_objects_that_all_have_other_keys_make_few_columns_but_all_that_are_asked_for():
    texts = pl.Series([json.dumps({f"key {n}-{m}": m for m in range(500)} | {"value": n}) for n in range(40)])
    read = objects(texts, wanted={"value", "key 39-7"})
    assert read.frame["value"].to_list() == [str(n) for n in range(40)]
    assert read.frame["key 39-7"].to_list() == [None] * 39 + ["7"]
    assert read.frame.width == OTHERS + 3
