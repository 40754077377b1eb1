"""`decodekit generate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decodekit.errors import ConstraintError, DecodekitError, OptionError, PromptError

if TYPE_CHECKING:
    from decodekit.run.results import Result

_CONSTRAINT = "Constraint"
_OUTPUT = "Output"
_RUN = "Run"


def generate(
    prompt: Annotated[str | None, typer.Argument(help="The text to continue; - reads standard input.")] = None,
    model: Annotated[str, typer.Option(help="A path, a hub name, or zoo:NAME.")] = "zoo:base",
    strategy: Annotated[str | None, typer.Option(help="Such as 'awrs | smc(particles=8)'.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help='A file: a prompt per line, or JSON lines {"prompt": ...}.')
    ] = None,
    json_schema: Annotated[str | None, typer.Option(help="A schema, or a file.", rich_help_panel=_CONSTRAINT)] = None,
    regex: Annotated[str | None, typer.Option(help="A regular expression.", rich_help_panel=_CONSTRAINT)] = None,
    choice: Annotated[list[str] | None, typer.Option(help="One of these.", rich_help_panel=_CONSTRAINT)] = None,
    sql_schema: Annotated[
        Path | None, typer.Option(help="A file of CREATE TABLE statements.", rich_help_panel=_CONSTRAINT)
    ] = None,
    database: Annotated[Path | None, typer.Option(help="An SQLite file.", rich_help_panel=_CONSTRAINT)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens per sample.", rich_help_panel=_RUN)] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A stop string.", rich_help_panel=_RUN)] = None,
    seed: Annotated[int, typer.Option(help="Of the noise field.", rich_help_panel=_RUN)] = 0,
    n: Annotated[int, typer.Option("-n", help="Samples per prompt.", rich_help_panel=_RUN)] = 1,
    batch_size: Annotated[int | None, typer.Option(help="Most rows in flight.", rich_help_panel=_RUN)] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Wall clock of the call.", rich_help_panel=_RUN)] = None,
    dtype: Annotated[str | None, typer.Option(help="Such as bfloat16.", rich_help_panel=_RUN)] = None,
    device: Annotated[str | None, typer.Option(help="Such as cuda.", rich_help_panel=_RUN)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.", rich_help_panel=_OUTPUT)] = False,
    stream: Annotated[bool, typer.Option(help="Print the text as it grows.", rich_help_panel=_OUTPUT)] = False,
    trace: Annotated[Path | None, typer.Option(help="Save the trace here (.npz).", rich_help_panel=_OUTPUT)] = None,
) -> None:
    """Generate text with a model, a strategy and a constraint."""
    asked = asked_of(prompt, prompts)
    if stream and (as_json or len(asked) != 1 or n != 1):
        raise OptionError("--stream prints one growing text: drop --json, -n and further prompts, or --stream")
    chosen = _constraint(json_schema, regex, choice, sql_schema, database)

    from transformers.utils import logging

    from decodekit.api import Decoder

    if not sys.stderr.isatty():
        logging.disable_progress_bar()  # "loading weights" in a log or a pipe
    decoder = Decoder(
        model,
        strategy,
        chosen,
        dtype=dtype,
        device=device,
        max_tokens=max_tokens,
        stop=stop or None,
        seed=seed,
        n=n,
        batch_size=batch_size,
        max_seconds=max_seconds,
        trace=trace is not None,
    )
    results = _streamed(decoder, asked[0]) if stream else _printed(decoder.generate(asked), as_json)
    if trace is not None and results[0].trace is not None:
        results[0].trace.whole.save(trace)
    if any(result.finish == "interrupted" for result in results):
        raise KeyboardInterrupt


def _streamed(decoder: Any, prompt: Any) -> list[Result]:
    found = []
    for piece in decoder.stream(prompt):
        sys.stdout.write(piece.text)
        sys.stdout.flush()
        if piece.result is not None:
            found.append(piece.result)
    sys.stdout.write("\n")
    return found


def _printed(results: list[Result], as_json: bool) -> list[Result]:
    for result in results:
        if as_json:
            typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
            continue
        for text in [s.text for s in result.samples] if _asks_many(result) else [result.text]:
            typer.echo(text)
        if result.message:
            typer.echo(f"decodekit: {result.message}", err=True)
    return results


def _asks_many(result: Result) -> bool:
    """Whether the samples are what the user asked for (-n), and not the particles behind one answer."""
    return len(result.samples) == len({sample.population for sample in result.samples})


def asked_of(prompt: str | None, file: Path | None) -> list[Any]:
    """The prompts of a command line: one, or those of a file."""
    if (prompt is None) == (file is None):
        raise PromptError("give either a prompt (or - for standard input) or --prompts FILE")
    if file is None:
        return [sys.stdin.read() if prompt == "-" else prompt]
    text = _read(file, "--prompts")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise PromptError(f"--prompts {str(file)!r} holds no prompt; write one per line")
    if not lines[0].lstrip().startswith("{"):
        return lines
    return [_record(line, number, file) for number, line in enumerate(lines, start=1)]


def _record(line: str, number: int, file: Path) -> Any:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as problem:
        raise PromptError(f"prompt {number} of {str(file)!r} is no JSON: {problem.msg}; repair it") from None
    for key in ("prompt", "messages"):
        if isinstance(record, dict) and key in record:
            return record[key]
    raise PromptError(f'prompt {number} of {str(file)!r} has no "prompt" and no "messages"; add either')


def _read(file: Path, option: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        said = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise DecodekitError(f"{option} {str(file)!r} cannot be read: {said}; check the path") from problem


def _constraint(
    json_schema: str | None, regex: str | None, choice: list[str] | None, sql_schema: Path | None, database: Path | None
) -> Any:
    """The constraint that the options describe, as the plugin of that name."""
    given: dict[str, tuple[str, dict[str, Any]]] = {}
    if json_schema is not None:
        given["--json-schema"] = ("json_schema", {"schema": _schema(json_schema)})
    if regex is not None:
        given["--regex"] = ("regex", {"pattern": regex})
    if choice:
        given["--choice"] = ("choice", {"options": choice})
    if sql_schema is not None:
        given["--sql-schema"] = ("sql", {"schema": _read(sql_schema, "--sql-schema")})
    if database is not None:
        given["--database"] = ("sql", {"database": str(database)})
    if len(given) > 1:
        raise ConstraintError(f"{' and '.join(given)} are two constraints; give one, or join them in --strategy")
    if not given:
        return None
    from decodekit.registry import discovery

    ((name, options),) = given.values()
    return discovery.load(name)(**options)


def _schema(given: str) -> Any:
    """A JSON Schema written on the command line, or the file of this name."""
    text = given if given.lstrip().startswith(("{", "true", "false")) else _read(Path(given), "--json-schema")
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise ConstraintError(
            f"--json-schema is no JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}; repair it"
        ) from None
