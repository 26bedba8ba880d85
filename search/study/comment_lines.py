"""Text as comment lines of YAML, TOML and shell files: no character of it can end the comment."""


def comment_lines(text: str) -> list[str]:
    """`text` as lines that begin with "# ": broken where it has line breaks, control characters as U+FFFD."""
    return [f"# {_printable(line)}".rstrip() for line in text.splitlines()]


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line)
