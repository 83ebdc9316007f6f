"""All targets by name."""

from fuzz import connection, documents, files, formats, growth, inotify, logs, shown
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    **formats.TARGETS,
    **logs.TARGETS,
    **files.TARGETS,
    **inotify.TARGETS,
    **shown.TARGETS,
    **connection.TARGETS,
    **documents.TARGETS,
    **growth.TARGETS,
}
