"""`main` turns a command line into an exit status; `parse` turns it into a record of settings."""

import dataclasses
import inspect
import itertools
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import cyclopts
import yaml
from cyclopts import App, Parameter

from keras_pretrain.commands import verbs
from keras_pretrain.runs.recipes import recipe_file, recipe_names
from keras_pretrain.runs.settings import Settings, read_yaml
from keras_pretrain.system import enable_logging

_NAME = "keras-pretrain"
# A user's argument, file or checkpoint can cause these exceptions. Any other exception is a bug in this package.
_USER_ERRORS = (cyclopts.CycloptsError, ValueError, OSError, ImportError, FloatingPointError)
_PARSING: dict[str, Any] = {
    "result_action": "return_value",
    "exit_on_error": False,
    "print_error": False,
    "help_on_error": False,
}
_APP_SETTINGS: dict[str, Any] = {"suppress_keyboard_interrupt": False}  # `_guarded` reports Ctrl-C
_Record = TypeVar("_Record", bound=Settings)


def main(argv: list[str] | None = None) -> int:
    """Carry out `keras-pretrain VERB ...`.

    Args:
      argv: the arguments. Default: the arguments of the process.

    Returns:
      The exit status: 0; 1 for a problem that `doctor` found; 2 for a mistake of the user, reported in one line on
      standard error; 130 after Ctrl-C. `--debug` shows tracebacks.

    Raises:
      SystemExit: 143, after a SIGTERM while a model trains.
    """
    enable_logging()
    verbs.begun = time.perf_counter()
    tokens = list(sys.argv[1:] if argv is None else argv)
    verb = tokens[0] if tokens and not tokens[0].startswith("-") else ""
    return _guarded(lambda: _application()(_with_config(tokens, verb), **_PARSING), f"{_NAME} {verb}".strip(), tokens)


def parse(
    record: type[_Record],
    argv: list[str] | None = None,
    *,
    description: str | None = None,
    takes: Collection[str] | None = None,
    **defaults: object,
) -> _Record:
    """Read a record of settings from the command line of a script. An error ends the script with a line and status 2.

    The script then shows the package's reports (`enable_logging`).

    Args:
      record: a class of `keras_pretrain.runs`, or a dataclass of your own that extends one.
      argv: the arguments. Default: the arguments of the process.
      description: shown by `--help`.
      takes: the names of the settings that the script takes. Default: all.
      **defaults: defaults that replace the record's own.

    Returns:
      The record, with values for the settings that were not given.
    """
    enable_logging()
    tokens, script = list(sys.argv[1:] if argv is None else argv), Path(sys.argv[0]).name
    app = App(name=script, help=description, help_format="plaintext", version_flags=[], default_parameter=_DEFAULTS,
              **_APP_SETTINGS)  # fmt: skip
    app.default(_command(_part(record, takes, defaults), lambda settings: settings, record, defaults))
    result: list[Any] = []

    def read() -> None:
        _refuse_fractions(tokens, record)
        result.append(app(tokens, **_PARSING))

    status = _guarded(read, script, tokens)
    if status or not isinstance(result[0], Settings):  # --help
        raise SystemExit(status)
    verbs.begin()
    completed = getattr(result[0], "completed", None)
    return completed() if completed else cast(_Record, result[0])


def _part(record: type, takes: Collection[str] | None, defaults: dict) -> type:
    """Make a dataclass with some of a record's fields, and with other defaults."""
    chosen = [
        (each.name, each.type, field(default=defaults.get(each.name, each.default)))
        for each in fields(record)
        if each.name not in _INTERNAL and (takes is None or each.name in takes)
    ]
    return dataclasses.make_dataclass(
        "Arguments", chosen, kw_only=True, namespace={"__doc__": record.__doc__, "__module__": __name__}
    )


# Maps arguments of Python functions to their names on the command line, where these differ.
_RENAMED = {
    "validation_fraction": "validation", "dupe_factor": "passes", "num_train_steps": "steps", "repo_id": "repo",
}  # fmt: skip
_INTERNAL = ("planned_steps",)  # settings of a record that have no flag
_DEFAULTS = Parameter(consume_multiple=True, negative_iterable=())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every verb.

    Args:
      config: A recipe (RECIPES), or a YAML file of settings, such as a run.yaml. Flags override it.
      print_config: Print the settings as YAML, and stop.
      debug: Show the traceback of an error.
    """

    config: str | None = None
    print_config: bool = False
    debug: bool = False


Options.__doc__ = (Options.__doc__ or "").replace("RECIPES", ", ".join(recipe_names()))


def _application() -> App:
    import keras_pretrain

    app = App(name=_NAME, help=keras_pretrain.__doc__.splitlines()[0], version=keras_pretrain.__version__,
              default_parameter=_DEFAULTS, **_APP_SETTINGS)  # fmt: skip
    for name, (record, function) in verbs.RECORDS.items():
        app.command(_command(_part(record, None, {}), function, record), name=name)
    for name, function in verbs.FUNCTIONS.items():
        app.command(function, name=name)
    return app


def _command(arguments: type, function: Callable, record: type[Settings], defaults: dict | None = None) -> Callable:
    """Make a function whose signature cyclopts reads: the arguments of a verb, and the options of every verb."""

    def command(*, settings: object = None, options: Options = Options()) -> object:
        given = {each.name: getattr(settings or arguments(), each.name) for each in fields(arguments)}
        settings = record(**(defaults or {}) | given)
        if options.print_config:
            print(settings.to_yaml(), end="")
            return None
        return function(settings)

    is_required = any(each.default is dataclasses.MISSING for each in fields(arguments))
    if is_required:
        (command.__kwdefaults__ or {}).pop("settings")
    command.__annotations__ = {
        "settings": Annotated[arguments if is_required else arguments | None, Parameter(name="*")],
        "options": Annotated[Options, Parameter(name="*")],
    }
    command.__doc__ = function.__doc__
    return command


def _with_config(tokens: list[str], verb: str) -> list[str]:
    """The tokens, plus flags for the settings in `--config FILE` that were not typed."""
    file, recipe = _value_of("--config", tokens), _value_of("--recipe", tokens)
    if recipe is not None:
        recipe_file(recipe)  # raises an error for an unknown recipe
    typed = {_name_of(token).removeprefix("no_") for token in tokens if token.startswith("--")}
    if {"hours", "steps"} <= typed:  # a record may have both `hours` and the steps chosen for them
        raise ValueError("`hours` and `steps` exclude each other: give one of them.")
    takes: type | Callable = verbs.FUNCTIONS.get(verb) or verbs.RECORDS.get(verb, (Options,))[0]
    _refuse_fractions(tokens, takes)
    if file is None or verb not in verbs.RECORDS:
        return tokens
    is_recipe = file in recipe_names()
    if not is_recipe and not Path(file).exists():
        raise FileNotFoundError(
            f"--config: {file} is neither a file nor a recipe. The recipes are: {', '.join(recipe_names())}."
        )
    values = read_yaml(recipe_file(file) if is_recipe else file)
    values |= {"recipe": file} if is_recipe else {}
    kind = values.pop("kind", verb)
    if kind != verb:
        raise ValueError(f"--config: {file} has settings of {kind!r}, not of {verb!r}.")
    names, flags = _names_of(takes), []
    for name, value in values.items():
        if name not in names:
            raise ValueError(f"--config: {file} has the setting {name!r}, which {verb!r} does not have.")
        if name in _INTERNAL or (name == "steps" and "hours" in typed) or (name == "hours" and "steps" in typed):
            continue
        if name not in typed and value is not None:
            flags += _as_flags(name, value)
    return [tokens[0], *flags, *tokens[1:]]


def _value_of(flag: str, tokens: list[str]) -> str | None:
    """The last value of a flag."""
    values = [after for token, after in itertools.pairwise(tokens) if token == flag]
    values += [token.partition("=")[2] for token in tokens if token.startswith(f"{flag}=")]
    return values[-1] if values else None


def _name_of(flag: str) -> str:
    return flag[2:].partition("=")[0].replace("-", "_")


def _as_flags(name: str, value: object) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, dict):
        raise ValueError(f"{name} must be a value or a list of values, not {yaml.safe_dump(value).strip()}.")
    return [f"{flag}={each}" for each in (value if isinstance(value, list) else [value])]


def _guarded(function: Callable, name: str, tokens: list[str]) -> int:
    """Call a function, and report a mistake of the user in one line on standard error."""
    try:
        return function() or 0
    except KeyboardInterrupt:
        without = " without --no-resume" if "--no-resume" in tokens else ""
        continues = tokens and (tokens[0] in verbs.RECORDS or "--suite" in tokens)
        kept = f" What is finished is kept: the same command{without} continues." if continues else ""
        print(f"Stopped.{kept}", file=sys.stderr)
        return 130
    except Exception as error:
        if not isinstance(error, _USER_ERRORS) and not type(error).__module__.startswith("tensorflow"):
            raise
        if "--debug" in tokens:
            traceback.print_exc()
        else:
            print(f"{name}: error: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.filename}: {error.strerror}"
    return _name_flags(text)


def _name_flags(text: str) -> str:
    """Rename Python arguments to the flags of the command: `resume=False` becomes `--no-resume`."""
    takers: list[type | Callable] = [*(record for record, _ in verbs.RECORDS.values()), *verbs.FUNCTIONS.values()]
    names = sorted({*_RENAMED}.union(*map(_names_of, takers)), key=len, reverse=True)

    def flag(found: re.Match) -> str:
        name = _RENAMED.get(found["name"], found["name"]).replace("_", "-")
        value = (found.groupdict().get("value") or "").strip("'\"")
        if value == "False":
            return f"--no-{name}"
        return f"--{name}" if value in ("", "True") else f"--{name} {value}"

    every, long = "|".join(names), "|".join(name for name in names if "_" in name)
    text = re.sub(rf"`(?P<name>{every})`", flag, text)
    text = re.sub(rf"""(?<![\w./-])(?P<name>{every})=(?P<value>'[^']*'|"[^"]*"|[\w.]*\w|\.\.\.)""", flag, text)
    text = re.sub(rf"(?<![\w./-])(?P<name>{long})(?![\w=/])", flag, text)
    return re.sub(rf"^(?P<name>{every})(?= must | is )", flag, text)


def _names_of(takes: type | Callable) -> dict[str, object]:
    """The settings of a record, or the arguments of a function, with their types."""
    if isinstance(takes, type):
        return {each.name: each.type for each in fields(takes)}
    return {name: each.annotation for name, each in inspect.signature(takes).parameters.items()}


def _refuse_fractions(tokens: list[str], takes: type | Callable) -> None:
    """Raise an error for a fraction as an integer setting, because cyclopts would round it (1.5 to 2)."""
    whole = {
        name for name, kind in _names_of(takes).items() if re.fullmatch(r"(<class ')?int('>)?( \| None)?", str(kind))
    }
    for token, after in itertools.zip_longest(tokens, tokens[1:], fillvalue=""):
        name, _, value = token[2:].partition("=")
        value = value or after
        if token.startswith("--") and name.replace("-", "_") in whole and re.fullmatch(r"-?\d*\.\d*", value):
            raise ValueError(f"--{name} must be a whole number, not {value}.")
