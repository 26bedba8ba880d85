"""Templates of the pages that a study leaves. What is filled in is escaped; a name without a value is an error."""

import functools

import jinja2


@functools.cache
def page_template(room: str, name: str) -> jinja2.Template:
    """The template `name` in the folder `templates` of a room such as "search.verdict"."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(room),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
