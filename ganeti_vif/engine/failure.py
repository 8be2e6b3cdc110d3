"""The one exception for everything that an administrator can cause or mend."""

from __future__ import annotations


class Failure(Exception):
    """Two lines: what happened to whom, and what to do.

    DO is a command that mends it (several are joined by &&); or `see: ` and a command that shows more; or `note: ` and
    words, where no command can know what is meant.
    Doors print both and exit with 1. Anything else that reaches a door is a fault of ours and shows its traceback.
    """

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what = one_line(what)
        self.do = one_line(do)

    def __str__(self) -> str:
        return f"{self.what}\n{self.do}"

    def about(self, whom: str) -> Failure:
        """The same failure with WHOM (instance, NIC, tap) in front of it."""
        told = self.what.startswith((f"{whom}:", f"{whom} "))
        return self if told else Failure(f"{whom}: {self.what}", self.do)


def remedy(do: str) -> str:
    """DO as doors print it: what is no command does not look like one."""
    return do if do.startswith(("see: ", "note: ")) else f"fix: {do}"


def in_brackets(do: str) -> str:
    """DO within a line, where brackets set it apart."""
    return f"({do.removeprefix('note: ')})"


class Gone(Failure):
    """The object went away, or never was: success for whoever wants it removed."""


class Lacking(Failure):
    """The kernel cannot do it at all, nor will it before it is another: who can do without says so and goes on."""


def one_line(text: str) -> str:
    """TEXT without control characters: values from outside end up in logs that are read by line, in ASCII.

    Ganeti decodes our output as strict UTF-8 and shows a hook's newline as a literal backslash-n
    (ganeti lib/utils/process.py:563, lib/backend.py:5994 at 3.0.2).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text)
