"""All targets by name."""

from fuzz import documents, formats, growth, http, inotify, logs, shown
from fuzz.target import Target

TARGETS: dict[str, Target] = {
    **formats.TARGETS,
    **logs.TARGETS,
    **inotify.TARGETS,
    **shown.TARGETS,
    **http.TARGETS,
    **documents.TARGETS,
    **growth.TARGETS,
}
