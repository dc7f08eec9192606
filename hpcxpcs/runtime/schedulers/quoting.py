"""Words for a shell and for the header lines that schedulers read, whatever characters are in them."""

from __future__ import annotations

import re

from hpcxpcs.errors import ConfigError

PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
MEANT_FOR_A_SHELL = re.compile(r"[$`\\'!]|^~")
"""Single quotes do protect these, but leave open whether that was meant: $'…' says so."""
CURLY_QUOTES = "\u2018\u2019\u201c\u201d\u201a\u201b\u201e\u201f\u2032\u2033\u02ba\u02bc"
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class ShellText(str):
    """Text that a shell is to read as it is, such as `"$(wc -l < "$PBS_NODEFILE")"`: it is not quoted."""

    __slots__ = ()


def shell_word(text: str) -> str:
    """Return `text` as one word of bash in printable characters on one line; bytes that are no UTF-8 survive too."""
    if isinstance(text, ShellText) or (PLAIN.fullmatch(text) and not re.match(r"\w+=", text)):
        return str(text)
    if "\0" in text:
        raise ConfigError(f"{text!r} holds a zero byte: no command and no path can carry that")
    escaped = "".join(_escape(letter) for letter in text)
    return f"$'{escaped}'" if escaped != text or MEANT_FOR_A_SHELL.search(text) else f"'{text}'"


def header_word(text: str) -> str:
    """Return `text` as one word of a scheduler's header line: in double quotes where there are odd characters."""
    if PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def one_line(text: str, field: str) -> str:
    """Return `text` when a header line can carry it; control characters would end the line or change its meaning."""
    if CONTROL.search(text):
        raise ConfigError(f"{field} {text!r} holds a control character: a header line of a job script cannot")
    return text


def plain_name(text: str, field: str) -> str:
    """Return the name of a queue or an account; schedulers know letters, digits and a few signs in them."""
    if not PLAIN.fullmatch(text) or text.startswith("-"):
        raise ConfigError(f"{field} {text!r}: only letters, digits and _@%+=:,./- can be in its name")
    return text


def _escape(letter: str) -> str:
    if letter in "\\'":
        return "\\" + letter
    if letter == "\n":
        return "\\n"
    if (letter.isprintable() and letter not in CURLY_QUOTES) or letter == " ":
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
