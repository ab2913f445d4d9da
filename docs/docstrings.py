"""Extension of griffe: an entry of a docstring with several names becomes one entry for each name."""

import re

import griffe

ENTRY = re.compile(r"^( +)((?:\*{0,2}\w+, )+\*{0,2}\w+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


class OneNameAnEntry(griffe.Extension):
    """`rows, columns: text` becomes `rows: text` and `columns: text`, so that each gets its type and default."""

    def on_instance(self, *, obj, **_):
        """Changes the docstring of an object before it is read."""
        if obj.docstring:
            obj.docstring.value = ENTRY.sub(_split, obj.docstring.value)


def _split(entry):
    return "\n".join(f"{entry[1]}{name}: {entry[3]}" for name in entry[2].split(", "))
