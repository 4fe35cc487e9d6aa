"""Files in an object store: a real S3 server on this machine, asked over HTTP."""

import io
import json
import logging

import polars as pl
import pytest
from file_project import LONG, Project, values

from rnnforecast.sources import SourceError

SECRET = "never-to-be-shown-42"


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def bucket(server, tmp_path, request):
    """A new bucket: `put` writes an object, `source` reads."""
    return Bucket(server, tmp_path, name=f"b{abs(hash(request.node.name))}")


class Bucket(Project):
    def __init__(self, server, folder, name):
        super().__init__(folder)
        import obstore
        from obstore.store import S3Store

        self.root = f"s3://{name}"
        self.options = {
            "aws_access_key_id": "key", "aws_secret_access_key": SECRET, "aws_region": "us-east-1",
            "aws_endpoint_url": server, "aws_allow_http": "true",
        }  # fmt: skip
        plain = {key: value for key, value in self.options.items() if key != "aws_allow_http"}
        import urllib.request

        urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()
        self.store = S3Store(name, config=plain, client_options={"allow_http": True})
        self.put = lambda key, text: obstore.put(self.store, key, text if isinstance(text, bytes) else text.encode())
        self.delete = lambda key: obstore.delete(self.store, key)

    def pipeline(self, path, **keys):
        return super().pipeline(path=f"{self.root}/{path}", **{"options": self.options, **keys})


def test_an_object_is_read_by_its_key_a_glob_or_its_folder(bucket):
    bucket.put("a/1.csv", "time,value\n1,1\n")
    bucket.put("a/2.jsonl", '{"time": 2, "value": 2}\n')
    bucket.put("a/deep/3.csv", "time,value\n3,3\n")
    bucket.put("a/_started.csv", "time,value\n9,9\n")
    bucket.put("a/4.csv.part", "time,value\n9,9\n")
    assert values(bucket.read(path="a/1.csv")) == [1.0]
    assert values(bucket.read(path="a/*")) == [1.0, 2.0]
    assert values(bucket.read(path="a/")) == [1.0, 2.0]
    assert values(bucket.read(path="**/*.csv")) == [1.0, 3.0]
    assert values(bucket.read(path="a/[12].*")) == [1.0, 2.0]


@pytest.mark.parametrize("write", ["write_parquet", "write_ipc"])
def test_typed_columns_are_read_from_far_away(bucket, write):
    out = io.BytesIO()
    getattr(pl.DataFrame({"time": [1, 2], "value": [0.5, 1.5]}), write)(out)
    bucket.put("a.parquet", out.getvalue())
    batch = bucket.read(path="a.parquet", format="parquet" if write == "write_parquet" else "arrow")
    assert values(batch) == [0.5, 1.5]
    assert (
        bucket.read(batch.cursor, path="a.parquet", format="parquet" if write == "write_parquet" else "arrow") is None
    )


def test_of_an_object_that_grew_only_the_new_rows_are_fetched(bucket, monkeypatch):
    from rnnforecast.sources import object_store, pieces

    monkeypatch.setattr(object_store, "WINDOW", 2_000)
    monkeypatch.setattr(object_store, "MIB", 500)
    monkeypatch.setattr(pieces, "SAMPLE", 2_000)
    rows = "".join(f"{step},{step}\n" for step in range(20_000))
    bucket.put("a.csv", "time,value\n" + rows)
    first = bucket.read(path="a.csv")
    assert (len(first.frame), bucket.read(first.cursor, path="a.csv")) == (20_000, None)
    fetched = []
    asked = object_store.Bucket.asked
    monkeypatch.setattr(
        object_store.Bucket,
        "asked",
        lambda self, request, *rest, **more: fetched.append(more.get("options")) or asked(self, request, *rest, **more),
    )
    bucket.put("a.csv", "time,value\n" + rows + "20000,7\n")
    second = bucket.read(first.cursor, path="a.csv")
    assert values(second) == [7.0]
    ranges = [wanted["range"] for wanted in fetched if wanted]
    assert sum(last - begin for begin, last in ranges) < 10_000 < len(rows)


def test_an_object_written_anew_is_read_again_and_one_taken_away_is_no_error(bucket):
    bucket.put("in/a.csv", "time,value\n1,1\n2,2\n")
    first = bucket.read(path="in/*.csv")
    bucket.put("in/a.csv", "time,value\n1,5\n2,2\n3,3\n")
    second = bucket.read(first.cursor, path="in/*.csv")
    assert values(second) == [5.0, 2.0, 3.0]
    bucket.delete("in/a.csv")
    assert bucket.read(second.cursor, path="in/*.csv") is None
    assert bucket.read(path="in/") is None
    with pytest.raises(SourceError, match=r"in/\*.csv: no file matches: no such object; check the key"):
        bucket.read(path="in/*.csv")


def test_the_options_of_the_lake_serve_where_the_source_has_none(bucket):
    bucket.put("a.csv", "time,value\n1,1\n")
    keys = {"options": {}, "pipeline": {"storage": {"options": bucket.options}}}
    assert values(bucket.read(path="a.csv", **keys)) == [1.0]


def test_errors_name_the_store_and_no_key(bucket):
    with pytest.raises(SourceError, match=r"s3://b\d+/no.csv: no file matches"):
        bucket.read(path="no.csv")
    options = {**bucket.options, "aws_endpoint_url": "http://127.0.0.1:9", "aws_access_key_id": SECRET}
    with pytest.raises(SourceError, match=r"s3://b\d+: head failed .*; check the address, the keys and the n") as error:
        bucket.read(path="a.csv", options=options)
    assert SECRET not in str(error.value)
    with pytest.raises(SourceError, match=r"s3://b\d+: no such store .*unknown.*; check `options:`") as error:
        bucket.read(path="a.csv", options={"unknown_key": SECRET})
    assert SECRET not in str(error.value)
    assert SECRET not in json.dumps(bucket.source(path="a.csv").key)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://key:secret@bucket/a.csv", r"s3://bucket: keys in a URL are shown everywhere; put them in `options:`"),
        ("https://host/a.csv", r"https://...: expected a path or a URL of an object store .* `kind: http`"),
        ("ftp://host/a.csv", r"ftp://...: expected a path or a URL of an object store \(s3, s3a, gs, az\)"),
    ],
)
def test_urls_that_are_no_place_are_refused(tmp_path, url, words):
    with pytest.raises(SourceError, match=words) as error:
        Project(tmp_path).read(path=url, columns=LONG)
    assert "secret" not in str(error.value)
