"""What a reader of a source makes of it, whatever the source."""

import json

from rnnforecast.sources import open_source


def opener(built):
    """From a function that makes a pipeline of a source's address and keys, one that opens its reader."""

    def make(*address, **keys):
        pipeline = built(*address, **keys)
        return open_source(pipeline, pipeline.sources[0])

    return make


def read(reader, cursor=None, until=None):
    """All batches from a cursor on, which has been through JSON, as the table keeps it."""
    return list(reader.read(json.loads(json.dumps(cursor)), until=until))


def values(batches):
    return [value for batch in batches for value in batch.frame["target"].to_list()]
