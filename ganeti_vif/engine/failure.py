# SPDX-License-Identifier: BSD-2-Clause
"""The one exception for every fault that an administrator can cause or mend."""

from __future__ import annotations


class Failure(Exception):
    """A fault, in two lines.

    WHAT says what happened, and to which instance, NIC or tap. DO has one of three forms: a command that mends the
    fault (several commands are joined by &&); `see: ` and a command that shows more; `note: ` and words, if no command
    can mend it.

    An entry point prints both lines and exits with 1. Any other exception there is a bug and shows its traceback.
    """

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what = one_line(what)
        self.do = one_line(do)

    def __str__(self) -> str:
        return f"{self.what}\n{self.do}"

    def about(self, whom: str) -> Failure:
        """The same failure with WHOM (instance, NIC, tap) in front. A failure that begins with WHOM stays as it is."""
        told = self.what.startswith((f"{whom}:", f"{whom} "))
        return self if told else Failure(f"{whom}: {self.what}", self.do)


def remedy(do: str) -> str:
    """DO as an entry point prints it. Only a command that mends the fault gets the prefix `fix: `."""
    return do if do.startswith(("see: ", "note: ")) else f"fix: {do}"


def in_brackets(do: str) -> str:
    """DO in brackets, for the end of a line."""
    return f"({do.removeprefix('note: ')})"


class Gone(Failure):
    """The object does not exist (any more). For a caller that removes it this is a success."""


class Lacking(Failure):
    """The running kernel cannot do it at all. A caller that can go on without it logs this and goes on."""


def one_line(text: str) -> str:
    """TEXT with control and non-ASCII characters escaped, because logs are read by line.

    TEXT may contain values from outside. Ganeti decodes our output as strict UTF-8, and it shows a hook's newline as a
    literal backslash-n (ganeti lib/utils/process.py:563, lib/backend.py:5994 at 3.0.2).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in text)
