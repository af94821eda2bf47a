"""The command line: `aft-jax VERB --config=FILE[:ARGUMENTS] --config.KEY=VALUE --workdir=DIR`.

Each verb imports what it needs when it is called, so that `report` works without a trainer and
`extract` without a plotting library.
"""

import contextlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence

from absl import flags

from aft_jax.distributed import is_first, join, joined, leave
from aft_jax.errors import NonFiniteError, Preempted, StorageError, UsageError
from aft_jax.files import has_failed
from aft_jax.flags import Options, parse
from aft_jax.preemption import stops_at_once

EXIT_USAGE = 2
EXIT_NON_FINITE = 3
EXIT_STORAGE = 74  # EX_IOERR of sysexits.h
EXIT_INTERRUPTED = 130  # what shells report for Ctrl-C


def _extract(options: Options) -> None:
    from aft_jax.features import extract

    for store in extract(options.resolved()):
        print(f"features: {store}")


def _verify(options: Options) -> None:
    from aft_jax.features import verify

    for line in verify(options.resolved(), rows=options.rows):
        print(line)


def _list(options: Options) -> None:
    from aft_jax.features import format_stores, list_stores

    print(format_stores(list_stores(options.resolved().features.directory)))


def _import_official(options: Options) -> None:
    from aft_jax.features import import_official

    config = options.resolved()
    imported = [name for name, teacher in config.teachers.items() if teacher.kind == "imported"]
    if not imported:
        raise UsageError(
            "import-official reads the files of the config's teachers of kind 'imported'; it has "
            "none. Name one: config.teachers.NAME = teacher('imported', 'features.pt')."
        )
    for name in imported:
        for store in import_official(config, config.teachers[name].source, name):
            print(f"features: {store}")


def _export_official(options: Options) -> None:
    from aft_jax.features import export_official

    for file in export_official(options.resolved(), options.directory()):
        print(f"exported: {file}")


def _rank(options: Options) -> None:
    from aft_jax.experiments import format_ranking, rank

    print(format_ranking(rank(options.resolved(), options.workdir)))


def _compile(options: Options) -> None:
    from aft_jax.aot import compile_for, format_compilation, parse_widths

    widths = parse_widths(options.widths) if options.widths else None
    found = compile_for(options.resolved(), options.topology, options.classes, widths)
    print(format_compilation(found))


def _train(options: Options) -> None:
    from aft_jax.training import train

    result = train(options.resolved(), options.directory())
    print(f"trained: {options.workdir}, tune accuracy {100 * result['tune']['accuracy']:.2f} %")


def _evaluate(options: Options) -> None:
    from aft_jax.training import evaluate

    workdir = options.directory()
    options.without_config("evaluate reads the config of the run")
    values = evaluate(workdir, options.split)
    print(f"{options.split}: accuracy {100 * values['accuracy']:.2f} %, loss {values['loss']:.4f}")


def _compare(options: Options) -> None:
    from aft_jax.experiments import compare

    print(compare(options.resolved(), options.directory()))


def _sweep(options: Options) -> None:
    from aft_jax.experiments import sweep

    print(sweep(options.resolved(), options.directory()))


def _soup(options: Options) -> None:
    from aft_jax.experiments import soup

    options.without_config("soup reads the config of the directory")
    print(soup(options.directory()))


def _report(options: Options) -> None:
    from aft_jax.experiments import report

    workdir = options.directory()
    options.without_config("report reads the configs of its runs")
    print(f"report: {report(workdir, options.runs)}")


def _export(options: Options) -> None:
    from aft_jax.export import export

    print(f"exported: {export(options.directory())}")


VERBS: Mapping[str, Callable[[Options], None]] = {
    "extract": _extract,
    "verify": _verify,
    "list": _list,
    "import-official": _import_official,
    "export-official": _export_official,
    "rank": _rank,
    "compile": _compile,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
    "sweep": _sweep,
    "soup": _soup,
    "report": _report,
    "export": _export,
}


SEVERAL = ("extract", "train", "evaluate", "compare", "sweep")
"""Verbs whose work several processes share; the others are one process's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: what follows the program's name; None reads it from the process.

    Returns:
        Exit code: 0; 2 for input that breaks a rule; 3 for training that met a non-finite loss or
        gradient; 74 where the disk is full or storage fails; 75 after SIGTERM, see
        `aft_jax.errors.Preempted`; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.getcwd() not in sys.path:  # where "module:function" in a config is looked for
        sys.path.insert(0, os.getcwd())
    if not words or words[0] == "help" or {"-h", "--help"} & set(words):
        print(_usage())
        return 0
    try:
        code = _run(words[0], words[1:])
    except BaseException:
        if joined():
            traceback.print_exc()
            leave(1)
        raise
    if code not in (0, Preempted.EXIT_CODE):  # in those all processes end alike
        leave(code)
    return code


def _run(verb: str, words: Sequence[str]) -> int:
    """The exit code of a verb, its error printed."""
    try:
        if verb not in VERBS:
            raise UsageError(f"the verb is one of {', '.join(VERBS)}; got {verb!r}.")
        with _messages(), stops_at_once():
            options = parse(verb, words)
            if verb in SEVERAL:
                join(options.processes)
            with _one_voice():
                VERBS[verb](options)
    except (UsageError, flags.Error) as error:
        print(f"aft-jax: {error}", file=sys.stderr)
        return EXIT_NON_FINITE if isinstance(error, NonFiniteError) else EXIT_USAGE
    except StorageError as error:
        print(f"aft-jax: {error}", file=sys.stderr)
        return EXIT_STORAGE
    except OSError as error:
        if not has_failed(error):
            raise
        print(
            f"aft-jax: what a run reads and writes lies on storage that works; {error}. Repair it, "
            "then the same command resumes.",
            file=sys.stderr,
        )
        return EXIT_STORAGE
    except Preempted as stop:
        print(f"aft-jax: {stop}.", file=sys.stderr)
        return stop.EXIT_CODE
    except KeyboardInterrupt:
        print("aft-jax: interrupted; the same command resumes.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Shows the library's own messages and warnings on standard error."""
    logger, handler = logging.getLogger("aft_jax"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("aft-jax: %(message)s"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # libraries that are imported meanwhile give the root a handler too
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes the first one speaks; the others' warnings and errors are heard, too."""
    if is_first():
        yield
        return
    logging.getLogger("aft_jax").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _usage() -> str:
    return (
        "usage: aft-jax VERB --config=FILE[:ARGUMENTS] [--config.KEY=VALUE ...] [--workdir=DIR]\n\n"
        "  extract          compute the teachers' features once and store them\n"
        "  verify           check the stores' hashes, and rows with the live teacher (--rows=16)\n"
        "  list             the stores in config.features.directory\n"
        "  import-official  make stores of the published code's feature files\n"
        "  export-official  write the stores as such files, into --workdir\n"
        "  rank             score teachers and sets of them before training (--workdir=DIR saves)\n"
        "  compile          what a step takes on a TPU slice, without one (--topology=v5e:4x4)\n"
        "  train            train one student, or resume it\n"
        "  evaluate         evaluate the student of a run on a split (--split=tune)\n"
        "  compare          choose beta on tune, train paired seeds, evaluate on test\n"
        "  sweep            choose teachers and beta of one method on tune, evaluate on test\n"
        "  soup             average the students of a sweep or comparison\n"
        "  report           write report/index.html about --workdir, or there about RUN [RUN ...]\n"
        "  export           write the student of a run for timm or transformers to load\n\n"
        "Several processes share a run: each is started with the same command, inside srun or on\n"
        "each host of a TPU slice, or with --coordinator=HOST:PORT --processes=N --process=I."
    )
