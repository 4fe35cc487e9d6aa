"""Which files a source means: its paths, globs, watched folders and URLs, each file once."""

from pathlib import Path

from rnnforecast.config import FileSource, Pipeline
from rnnforecast.sources.base import SourceError
from rnnforecast.sources.object_store import object_files
from rnnforecast.sources.places import WILD, File, local_files


def find(pipeline: Pipeline, source: FileSource, *, seen: bool) -> list[File]:
    """The files of a source, pattern by pattern, each in the order of names; nothing in a watched folder is no error.

    `seen`: some were read before, so that a glob without a match only means that they were taken away.
    Raises SourceError for a path without a file, or a store that cannot be asked.
    """
    files: dict[str, File] = {}
    for pattern in [source.path] if isinstance(source.path, str) else source.path:
        resolved, any_format = pipeline.resolve(pattern), source.format != "auto"
        found: list[File] = []
        if "://" in resolved:
            own = {key: value.get_secret_value() for key, value in source.options.items()}
            found += object_files(resolved, own or pipeline.storage.options, any_format=any_format)
            folder, where = resolved.endswith("/"), "no such object; check the key"
        else:
            found += local_files(pattern, resolved, pipeline.root, any_format=any_format)
            folder = Path(resolved).is_dir()
            where = f"no such file ({resolved}); relative paths count from the project, {pipeline.root}"
        if not found and not folder and not (seen and WILD.search(pattern)):
            raise SourceError(f"{pattern}: no file matches: {where}")
        for file in found:
            files.setdefault(file.name, file)
    return list(files.values())
