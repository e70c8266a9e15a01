"""A griffe extension: the docstrings of the package as mkdocstrings reads Google's style.

- `a, b: text` under `Args:` describes several parameters; each of them gets the text.
- A trailing `>>>` example gets the heading `Examples:`.
- A record of settings has its own parameters and those of its bases, as `Settings.__init_subclass__` makes them, and
  `setting(42, least=0)` is the default 42.
"""

import re

from griffe import Docstring, ExprCall, ExprKeyword, Extension

_RECORDS = "runs.settings"

_SEVERAL = re.compile(r"( +)((?:\*{0,2}\w+, )+\*{0,2}\w+): (.*)")


class Docstrings(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = _with_examples(_each_parameter(obj.docstring))

    def on_class_members(self, *, cls, **kwargs):
        for attribute in cls.attributes.values():
            if isinstance(attribute.value, ExprCall) and str(attribute.value.function) == "setting":
                positional = [each for each in attribute.value.arguments if not isinstance(each, ExprKeyword)]
                attribute.value = positional[0] if positional else None

    def on_package(self, *, pkg, **kwargs):
        described, fields = {}, {}  # class name: its parameters' texts; its fields
        for record in pkg[_RECORDS].classes.values():
            if record.docstring is None or "\nArgs:\n" not in record.docstring.value:
                continue
            summary, _, arguments = record.docstring.value.partition("\nArgs:\n")
            texts, names = {}, {name for name, each in record.attributes.items() if "property" not in each.labels}
            for base in map(str, record.bases):
                texts |= described.get(base, {})
                names |= fields.get(base, set())
            texts |= dict(re.findall(r"^  (\w+): (.+)$", arguments, re.MULTILINE))
            described[record.name], fields[record.name] = texts, names
            lines = (f"  {name}: {text}" for name, text in texts.items() if name in names)
            record.docstring.value = "\n".join([summary, "Args:", *lines])


def _each_parameter(docstring: Docstring) -> str:
    """Repeat `a, b: text` under `Args:` for each of the parameters."""
    lines = docstring.value.splitlines()
    done, in_arguments = [], False
    while lines:
        line = lines.pop(0)
        if line and not line.startswith(" "):
            in_arguments = line == "Args:"
        several = in_arguments and _SEVERAL.fullmatch(line)
        if not several:
            done.append(line)
            continue
        indent, names, text = several.groups()
        rest = []
        while lines and lines[0].startswith(indent + " "):
            rest.append(lines.pop(0))
        for name in names.split(", "):
            done += [f"{indent}{name}: {text}", *rest]
    return "\n".join(done)


def _with_examples(text: str) -> str:
    """Put the heading `Examples:` above examples that stand at the end."""
    before, found, example = text.partition("\n>>> ")
    if not found:
        return text
    lines = (">>> " + example).splitlines()
    return "\n".join([before, "Examples:", *(f"  {line}" for line in lines)])
