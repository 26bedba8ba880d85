"""Pages are filled in with their values escaped, and a value that is missing is an error."""

import jinja2
import pytest

from search.record.page_template import page_template

ROOM, PAGE = "search.findings", "data_check.html"


def test_a_rooms_template_is_read_once_and_nothing_is_left_out_in_silence() -> None:
    page = page_template(ROOM, PAGE)
    assert page is page_template(ROOM, PAGE)
    assert page.name == PAGE
    with pytest.raises(jinja2.UndefinedError):
        page.render()
    with pytest.raises(jinja2.TemplateNotFound):
        page_template(ROOM, "no_such_page.html")


def test_what_is_filled_in_is_escaped_and_lines_of_commands_leave_no_gap() -> None:
    environment = page_template(ROOM, PAGE).environment
    text = environment.from_string("a\n  {% if x %}\n{{ x }}\n  {% endif %}\nb").render(x="<i>")
    assert text == "a\n&lt;i&gt;\nb"
