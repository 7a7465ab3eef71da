"""Collect what must not change by accident: the names and texts that callers, operators and stored data depend on.

Each collector returns text that a person can compare line by line. Modules are found by what their files contain, not
by their paths, so that moving a module changes nothing here. Only `command_help`, `openapi` and `client` start
at a public name: the command `trellis2` and the client's packages.
"""

import ast
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from datetime import UTC, date, datetime
from enum import Enum, EnumType
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, get_type_hints

import httpx
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "worker", "shared", "infra")
CLIENT_MODULES = (
    "trellis2_modal",
    "trellis2_modal.client",
    "trellis2_modal.webhooks",
)  # what the documentation imports
COMMAND = Path(sys.executable).with_name("trellis2")
COLUMNS, WIDTH = "100", 120

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
ID = "01m87qa8keebs8qqn6j7rpd6vh"
# Arguments of the key schema's functions whose names do not say enough: see `_argument`.
TEXTS = {
    "upload_id": f"up_{ID}",
    "endpoint_id": f"we_{ID}",
    "event_id": f"evt_{ID}_7",
    "delivery_id": f"evt_{ID}_7-we_{ID}",
    "kind": "job",
    "identifier": f"job_{ID}",
    "text": f"job_{ID}",
}


def openapi() -> str:
    """The OpenAPI document, from a running service."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS2_")}
    with tempfile.TemporaryDirectory() as folder:
        command = [COMMAND, "serve", "--role", "gateway", "--port", "0", "--data-dir", folder]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as service:
            try:
                addresses = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in service.stderr or ())
                address = next(filter(None, addresses), None)
                assert address, "the service ended before it had an address"
                return _pretty(httpx.get(f"{address[0]}/openapi.json", timeout=httpx.Timeout(None)).json())
            finally:
                service.kill()


def command_help() -> str:
    """The help of `trellis2` and of every command below it."""
    (command,) = entry_points(group="console_scripts", name="trellis2")
    with _environment(COLUMNS=COLUMNS):
        return "\n".join(_help(command.load()))


def _help(command: Callable[[list[str]], int], *words: str) -> Iterator[str]:
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        command([*words, "--help"])
    yield f"$ {' '.join(('trellis2', *words))} --help\n{printed.getvalue()}"
    # argparse indents the names of commands, and nothing else, by four columns; aliases follow in brackets.
    for name in re.findall(r"^ {4}(\w[\w-]*)(?: \([\w, -]+\))?(?:$|  )", printed.getvalue(), re.MULTILINE):
        yield from _help(command, *words, name)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    original = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(original)


def metrics() -> str:
    """Every family that `/metrics` shows: its type, help text, label names and bucket bounds."""
    families = {}
    for module in _modules("CollectorRegistry", "infra"):
        registries = (getattr(value, "registry", None) for value in vars(module).values())
        for registry in registries:
            # The library has no public way to the labels of a metric that has no sample yet.
            for collector in registry._collector_to_names if isinstance(registry, CollectorRegistry) else ():
                for family in collector.collect():
                    families[family.name] = {
                        "type": family.type,
                        "help": family.documentation,
                        "labels": list(getattr(collector, "_labelnames", ())),
                        "buckets": list(getattr(collector, "_upper_bounds", ()))[:-1],  # the last is infinite
                    }
    return _pretty(families)


def log_events() -> str:
    """Every event's level and keys, from the calls of `log(event, ...)`; one line for each distinct call."""
    events = defaultdict(set)
    for _, text in _sources(*PACKAGES):
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(ast.Name("log"), [event], keywords):
                    options = {keyword.arg or "**": ast.unparse(keyword.value) for keyword in keywords}
                    level = options.pop("level", "logging.INFO").rpartition(".")[2]
                    trace = ["+trace"] if options.pop("exc_info", "") else []
                    events[_event_name(event)].add(" ".join([level, *sorted(options), *trace]))
    return _pretty({event: sorted(calls) for event, calls in events.items()})


def _event_name(event: ast.expr) -> str:
    """The constant name, `{}` in place of what it is composed of."""
    parts = event.values if isinstance(event, ast.JoinedStr) else [event]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


def settings() -> str:
    """Every environment variable with its type, bounds, default and description, as JSON schema."""
    variables = {}
    for model in _classes(BaseSettings, "BaseSettings", "infra"):
        for name, schema in model.model_json_schema()["properties"].items():
            variables[f"{model.model_config['env_prefix']}{name}".upper()] = {
                key: value for key, value in schema.items() if key != "title"
            }
    return _pretty(variables)


def store_keys() -> str:
    """What each function of the key schema returns for fixed arguments, and the schema's constants."""
    (schema,) = (import_module(name) for name, _ in _sources("shared") if name.endswith(".keys"))
    public = {name: value for name, value in vars(schema).items() if not name.startswith("_")}
    functions = {
        name: (value, {parameter: kind for parameter, kind in get_type_hints(value).items() if parameter != "return"})
        for name, value in public.items()
        if inspect.isfunction(value) and value.__module__ == schema.__name__
    }
    results: dict[str, Any] = {name: value for name, value in public.items() if isinstance(value, str | int)}
    # A function that reads a key gets what the function returned after which it is named: `read_usage`, `usage`.
    for name, (function, parameters) in functions.items():
        if not {"key", "marker"} & set(parameters):
            arguments = [_argument(parameter, kind) for parameter, kind in parameters.items()]
            results[name] = _constant_part(partial(function, *arguments))
    for name, (function, _) in functions.items():
        if name not in results:
            writers = [writer for writer in results if writer in name] or ["job_record"]
            results[name] = function(results[max(writers, key=len)])
    return _pretty(results)


def _argument(name: str, kind: Any) -> object:
    if isinstance(kind, EnumType):
        return list(kind)[-1]
    if kind is str:
        return TEXTS.get(name) or (f"{name.removesuffix('_id')}_{ID}" if name.endswith("_id") else name)
    return {datetime: MOMENT, date: MOMENT.date(), int: 7, float: 1.5}[kind]


def _constant_part(function: Callable[[], Any]) -> Any:
    """The result; of an id with a random end the kind and the time, which take 14 characters."""
    first, second = function(), function()
    return first if first == second else f"{first[:14]}..."


def records() -> str:
    """Fields, types and defaults of every stored (so frozen) model, and the values of every enumeration."""
    models = [model for model in _classes(BaseModel, "class ", "shared", "api") if model.model_config.get("frozen")]
    fields = {model.__name__: _fields(model) for model in models}
    assert len(fields) == len(models), "two records have the same name"
    enumerations = {
        kind.__name__: [member.value for member in kind] for kind in _classes(Enum, "Enum", "shared", "api")
    }
    return _pretty({"records": fields, "enumerations": enumerations})


def _fields(model: type[BaseModel]) -> dict[str, str]:
    return {name: _without_modules(_field(field)) for name, field in model.model_fields.items()}


def _field(field: FieldInfo) -> str:
    kind = inspect.formatannotation(field.annotation)
    if field.is_required():
        return kind
    factory: Any = field.default_factory
    return f"{kind} = {f'{factory.__name__}()' if factory else repr(field.default)}"


def client() -> str:
    """The client's public names: signatures of functions and methods, values of constants and enumerations."""
    exported = {}
    for module in map(import_module, CLIENT_MODULES):
        defined = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        names = getattr(module, "__all__", [name for name in defined if not name.startswith("_")])
        exported[module.__name__] = {name: _described(getattr(module, name)) for name in names}
    return _pretty(exported)


def _described(value: Any) -> Any:
    if isinstance(value, EnumType):
        return [member.value for member in value]
    if not isinstance(value, type):
        return _signature(value) if callable(value) else repr(value)
    client_bases = [base for base in value.__mro__ if base.__module__.startswith("trellis2_modal")]
    static = {
        name: inspect.getattr_static(value, name) for base in client_bases for name in vars(base) if name[0] != "_"
    }
    bases = ", ".join(base.__name__ for base in value.__bases__)
    members = {name: _member(member) for name, member in static.items() if not inspect.ismemberdescriptor(member)}
    return {"()": f"{_signature(value)} < {bases}", **members}


def _member(member: Any) -> str:
    if isinstance(member, property):
        return f"property{_signature(member.fget)}"
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__}{_signature(member.__func__)}"
    if inspect.isfunction(member):
        return ("async " if inspect.iscoroutinefunction(member) else "") + _signature(member)
    return repr(member)


def _signature(function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except ValueError:  # a built-in exception's
        return "(...)"
    # The text of other defaults, such as the environment, depends on the process.
    literal_types = (str, int, float, tuple, NoneType)
    parameters = [
        parameter if isinstance(parameter.default, (*literal_types, type)) else parameter.replace(default=...)
        for parameter in signature.parameters.values()
    ]
    return _without_modules(str(signature.replace(parameters=parameters))).replace("Ellipsis", "...")


def _without_modules(text: str) -> str:
    """The text of a type or signature, `shared.job.Job` as `Job`; what stands in quotes stays as it is."""
    return re.sub(r"('[^']*')|\b(?:[a-zA-Z_]\w*\.)+(?=[a-zA-Z_])", lambda match: match[1] or "", text)


def _classes(base: type, text: str, *packages: str) -> list[Any]:
    """Every class below `base` that these packages define, in modules in whose files the text stands."""
    return [
        value
        for module in _modules(text, *packages)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]


def _modules(text: str, *packages: str) -> list[ModuleType]:
    """Import the modules in whose files the text stands."""
    return [import_module(name) for name, source in _sources(*packages) if text in source]


def _sources(*packages: str) -> Iterator[tuple[str, str]]:
    """Names of all modules, and what their files contain."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path.read_text()


def _pretty(value: Any) -> str:
    return _json(_once(value, "", {}), "") + "\n"


def _once(value: Any, path: str, paths: dict[str, str]) -> Any:
    """Replace each long part that equals an earlier one by the path of that one."""
    if not isinstance(value, dict | list | tuple):
        return value
    text = json.dumps(value, sort_keys=True, default=str)
    first = paths.setdefault(text, path)
    if first != path and len(text) > WIDTH:
        return f"= {first}"
    if isinstance(value, dict):
        return {key: _once(part, f"{path}/{key}", paths) for key, part in sorted(value.items())}
    return [_once(part, f"{path}/{number}", paths) for number, part in enumerate(value)]


def _json(value: Any, indent: str) -> str:
    """As `json.dumps`, with each object and list on one line where it fits."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    if len(indent) + len(line) <= WIDTH or not isinstance(value, dict | list):
        return line
    inner_indent = f"{indent} "
    if isinstance(value, list):
        items, brackets = [_json(item, inner_indent) for item in value], "[]"
    else:
        items, brackets = [f"{json.dumps(key)}: {_json(item, inner_indent)}" for key, item in value.items()], "{}"
    separator = f",\n{inner_indent}"
    return f"{brackets[0]}\n{inner_indent}{separator.join(items)}\n{indent}{brackets[1]}"


COLLECTORS: dict[str, Callable[[], str]] = {
    "openapi.json": openapi,
    "help.txt": command_help,
    "metrics.json": metrics,
    "log_events.json": log_events,
    "settings.json": settings,
    "store_keys.json": store_keys,
    "records.json": records,
    "client.json": client,
}
