"""The functions of the verbs. Heavy libraries such as TensorFlow are imported when a verb starts."""

import inspect
import json
import shlex
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from keras_pretrain.compat.start_up import import_tensorflow
from keras_pretrain.runs.settings import (
    AdaptSettings,
    BertSettings,
    ElectraSettings,
    FinetuneSettings,
    PrepareSettings,
    Settings,
    require_source,
)
from keras_pretrain.system import require_packages

begun = time.perf_counter()  # start of the command, from which `--hours` counts


def begin() -> None:
    """Import what every verb needs, without the libraries' messages. If the output goes to a file or a pipe, turn off
    progress bars, which would fill many lines."""
    import_tensorflow()
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()  # hides the message that all weights were used
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


def prepare(settings: PrepareSettings) -> None:
    """Prepare a corpus of any size once, for any number of pretraining runs."""
    import keras_pretrain as kp

    begin()
    names = (
        "text_column", "sample_by", "encoding", "dialect", "on_bad_rows", "drop_duplicates", "language", "cleaning",
        "backend", "tokenizer", "vocab_size", "lowercase", "objective", "block_size", "line_by_line", "seed",
        "num_proc", "overwrite", "dry_run",
    )  # fmt: skip
    prepared = kp.prepare_corpus(
        settings.corpus,
        settings.output,
        validation_fraction=settings.validation,
        dupe_factor=settings.passes,
        engine=kp.prepared.RayEngine(settings.ray_address) if settings.engine == "ray" else None,
        **{name: getattr(settings, name) for name in names},
    )
    if isinstance(prepared, kp.prepared.DryRun):
        print("\n".join(f"replaced or deleted: {name}" for name in prepared.replaced))
        return
    seconds = time.perf_counter() - begun
    print(f"\n{settings.output} is ready after {seconds:,.0f} s; see report.json and lengths.png.")
    for split in (name for name in ("train", "validation") if name in prepared.report):
        counts = {name: n for name, n in prepared.report[split].items() if name not in ("files", "lengths")}
        print(f"{split}: {json.dumps(counts)}")


def bert(settings: BertSettings) -> None:
    """Pretrain a BERT on your own documents, or continue from one; the result is a fill-mask model."""
    begin()
    from keras_pretrain.runs.run import Run

    Run(settings, begun=begun).carry_out()
    _say_next(settings)


def electra(settings: ElectraSettings) -> None:
    """Pretrain an ELECTRA on your own documents, or continue from one; the result is an encoder to fine-tune."""
    begin()
    from keras_pretrain.runs.run import Run

    Run(settings, begun=begun).carry_out()
    _say_next(settings)


def _say_next(settings: BertSettings | ElectraSettings) -> None:
    """Suggest the next commands."""
    output = shlex.quote(str(settings.output))
    verbs = [f"serve {output}", f"finetune --model {output} --train labelled.csv --output classifier"]
    verbs.append(f"push --model {output} --repo NAME/MODEL --private")
    print("\n".join(["Next:", *(f"  keras-pretrain {verb}" for verb in verbs)]))


def adapt(settings: AdaptSettings) -> None:
    """Adapt a pretrained BERT or ELECTRA to your own text, and compare it before and after."""
    begin()
    from keras_pretrain.runs.adaptation import AdaptationRun

    AdaptationRun(settings, begun=begun).carry_out()


def finetune(settings: FinetuneSettings) -> None:
    """Fine-tune a pretrained encoder on labelled texts or pairs of texts, as a classifier or a regressor."""
    begin()
    from keras_pretrain.runs.finetuning import run_finetuning

    run_finetuning(settings)


def evaluate(
    *,
    model: tuple[str, ...],
    corpus: str | None = None,
    text_column: str = "text",
    pair_column: str | None = None,
    label_column: str = "label",
    block_size: Annotated[int | None, Parameter()] = None,
    seed: int = 42,
    suite: str | None = None,
    data: Path | None = None,
    tasks: tuple[str, ...] = (),
    seeds: int = 3,
    untrained: bool = False,
    output: Path = Path("output/suite"),
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    json_file: Path | None = None,
    debug: bool = False,
) -> None:
    """Evaluate checkpoints: masked language models on text, classifiers on labelled texts, or encoders on a suite.

    Args:
      model: Folders or names on the Hub. Models with the same tokenizer are compared at the same masked positions.
      corpus: A text corpus, or a file of labelled texts for a classifier. Default: the validation split of the run that
        made the first model.
      text_column: The column that holds the text.
      pair_column: For a classifier of pairs, the column that holds the second text.
      label_column: For a classifier, the column that holds the label.
      block_size: The maximum number of tokens of an example. Default: the run's, else 128.
      seed: The seed for the masks.
      suite: Evaluate on a suite of texts and tasks, instead of a corpus: korean, english, or your own YAML file.
      data: The folder of the suite's files.
      tasks: The tasks of the suite to fine-tune on. Default: all.
      seeds: Number of fine-tuning runs for each task of the suite; 0 leaves the tasks out.
      untrained: With a suite, also evaluate a copy of the first encoder with random weights.
      output: A folder for the suite's fine-tuning; seeds that are finished there are not trained again.
      precision: The precision of matrix products in the suite.
      json_file: A JSON file to which the metrics are also written.
      debug: Show the traceback of an error.
    """
    _require_nonnegative("seed", seed)
    if json_file is not None and (json_file.exists() or not json_file.parent.is_dir()):
        raise FileExistsError(f"`json_file`: {json_file} exists already, or its folder does not. Choose another name.")
    if suite is None:
        _refuse_changed(
            "has no effect without `suite`",
            data=data, tasks=tasks, seeds=seeds, untrained=untrained, output=output, precision=precision,
        )  # fmt: skip
        if corpus is not None:
            require_source("corpus", corpus)
        begin()
        from keras_pretrain.runs.evaluating import evaluate_checkpoints, table

        metrics = evaluate_checkpoints(
            model,
            corpus,
            text_column=text_column,
            pair_column=pair_column,
            label_column=label_column,
            block_size=block_size,
            seed=seed,
        )
        print(table(metrics))
    else:
        _refuse_changed(
            "has no effect beside `suite`, whose file has settings of its own",
            text_column=text_column, pair_column=pair_column, label_column=label_column, block_size=block_size,
            seed=seed,
        )  # fmt: skip
        if corpus is not None or data is None:
            raise ValueError("`suite` takes the folder of its files as `data`, and no `corpus`.")
        begin()
        from keras_pretrain.runs.suite import evaluate_suite, suite_table

        metrics = evaluate_suite(
            model,
            data,
            suite,
            tasks=tasks or None,
            seeds=seeds,
            untrained=untrained,
            output=output,
            precision=precision,
        )
        print(suite_table(metrics))
    if json_file is not None:
        json_file.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_changed(reason: str, **given: object) -> None:
    """Raise an error for arguments of `evaluate` that do not have their default value."""
    for name, value in given.items():
        if value != inspect.signature(evaluate).parameters[name].default:
            raise ValueError(f"`{name}` {reason}. Leave it out.")


def fill_mask(
    *texts: str, model: str, top_k: int = 5, rests: Literal["auto", "beginning", "continuation"] = "auto",
    debug: bool = False,
) -> None:  # fmt: skip
    """Let a trained model fill the gaps of sentences.

    Args:
      texts: Texts, each with one or more [MASK].
      model: The folder or Hub name of a checkpoint, or the folder of a SavedModel.
      top_k: The number of answers for each gap.
      rests: Read the rest of a word after a gap as a beginning or a continuation. Default: as the model was trained.
      debug: Show the traceback of an error.
    """
    if not texts:
        raise ValueError("There is no text. Give one or more, each with a [MASK].")
    if not 1 <= top_k <= 1000:
        raise ValueError(f"`top_k` must be from 1 to 1,000, not {top_k}.")
    for text in texts:
        if "[MASK]" not in text:
            raise ValueError(f"There is no [MASK] in {text!r}. Write [MASK] where the gap is.")
    if not (Path(model) / "saved_model.pb").exists():
        _check("model", model)
    begin()
    from keras_pretrain.export.answers import fill_gaps

    for text, gaps in zip(texts, fill_gaps(model, list(texts), top_k, rests=rests), strict=True):
        print(text)
        for number, gap in enumerate(gaps, start=1):
            if len(gaps) > 1:
                print(f" gap {number}")
            for answer in gap:
                print(f"  {answer.probability:.3f}  {answer.word}")


def export(
    *, model: str, output: Path, max_length: int | None = None, top_k: int = 5, overwrite: bool = False,
    debug: bool = False,
) -> None:  # fmt: skip
    """Export a checkpoint as a SavedModel that takes text, for TensorFlow Serving.

    Args:
      model: A folder or a name on the Hub.
      output: The folder of the SavedModel. For TensorFlow Serving, its last part must be a number, such as served/1.
      max_length: The maximum number of tokens of a text; longer texts are truncated. Default: the model's.
      top_k: The number of answers for each gap.
      overwrite: Replace a SavedModel that this version did not write.
      debug: Show the traceback of an error.
    """
    _check("model", model)
    begin()
    from keras_pretrain.export.saved_model import export_checkpoint

    folder = export_checkpoint(model, output, max_length=max_length, top_k=top_k, overwrite=overwrite)
    print(f'{folder} is ready: tf.saved_model.load("{folder}").signatures, after `import tensorflow_text`.')


def push(
    *, model: Path, repo: str, private: bool | None = None, message: str = "Upload model", debug: bool = False
) -> None:
    """Upload a checkpoint or a SavedModel to the Hugging Face Hub, with HF_TOKEN or after `hf auth login`.

    Args:
      model: A folder.
      repo: OWNER/NAME; created if it does not exist.
      private: If the repository is created now, make it private. Default: the owner's setting.
      message: The commit message.
      debug: Show the traceback of an error.
    """
    if not model.is_dir():
        raise FileNotFoundError(f"`model`: there is no folder {model}.")
    from keras_pretrain.export.hub import push_to_hub

    print(f"Uploaded: {push_to_hub(model, repo, private=private, message=message)}")


def serve(
    folder: Path, /, *, host: str = "127.0.0.1", port: int = 8765,
    open_page: Annotated[bool, Parameter(name="--open", negative="--no-open")] = False, debug: bool = False,
) -> int:  # fmt: skip
    """Show a checkpoint, or a run while it trains, as a page in the browser.

    Args:
      folder: The folder of a checkpoint or of a run.
      host: The address to listen on. By default, other machines cannot reach the page.
      port: The port to listen on; 0 chooses a free one.
      open_page: Open the page in the browser.
      debug: Show the traceback of an error.
    """
    require_packages("the page", ("starlette", "uvicorn"), "demo")
    from keras_pretrain.serving.contents import inspect_folder

    contents = inspect_folder(folder)
    from keras_pretrain.serving.application import is_loopback, listen, make_application, make_server

    try:
        with listen(host, port) as listening:
            print(f"Loading {folder} …", flush=True)
            begin()
            answerer = None
            if contents.encodes is not None:
                import tensorflow as tf

                tf.config.set_visible_devices([], "GPU")  # leaves the GPU's memory to a run that trains
                from keras_pretrain.serving.answering import Answerer

                answerer = Answerer(contents)
            application = make_application(contents, answerer, host)
            address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
            if not is_loopback(host):
                print("Everybody who reaches this machine can use the page. Private settings of a run are left out.")
            print(f"{address} shows {folder}. Ctrl-C ends it.", flush=True)
            if open_page:
                webbrowser.open(address)
            make_server(application).run(sockets=[listening])
    except KeyboardInterrupt:
        return 130
    return 0


def doctor(*, folder: Path = Path(), debug: bool = False) -> int:
    """Describe this machine, and report what would prevent a run.

    Args:
      folder: The folder that the output would be written to.
      debug: Show the traceback of an error.
    """
    begin()
    from keras_pretrain.runs.doctor import examine

    examination = examine([folder])
    print(examination)
    return 1 if examination.problems else 0


def _check(setting: str, name: str) -> None:
    from keras_pretrain.models.loading import check_checkpoint

    try:
        check_checkpoint(name, ("bert", "electra"))
    except (ValueError, OSError) as error:
        raise type(error)(f"`{setting}`: {error}") from None


def _require_nonnegative(name: str, value: int) -> None:
    if value < 0:
        raise ValueError(f"`{name}` must be at least 0, not {value}.")


RECORDS: dict[str, tuple[type[Settings], Callable[[Any], None]]] = {
    "prepare": (PrepareSettings, prepare),
    "bert": (BertSettings, bert),
    "electra": (ElectraSettings, electra),
    "adapt": (AdaptSettings, adapt),
    "finetune": (FinetuneSettings, finetune),
}
FUNCTIONS: dict[str, Callable[..., int | None]] = {
    "evaluate": evaluate,
    "fill-mask": fill_mask,
    "export": export,
    "push": push,
    "serve": serve,
    "doctor": doctor,
}
