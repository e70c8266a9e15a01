"""`model_card`: the README.md of a checkpoint, from the model and the run that made it."""

import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import ModelCardData

from keras_pretrain.corpus.cleaning import describe_cleaning
from keras_pretrain.tokenization import cleaning_of

MARK = "<!-- Written by keras_pretrain, which replaces it with the model until you edit it. -->"

_TASKS = {  # class → what the Hub calls it, what it is, what a pipeline is asked
    "BertForPreTraining": ("fill-mask", "BERT with its masked-language-model and next-sentence heads"),
    "BertForMaskedLM": ("fill-mask", "BERT with its masked-language-model head"),
    "ElectraForMaskedLM": ("fill-mask", "the generator of an ELECTRA"),
    "ElectraForPreTraining": (
        "feature-extraction",
        "the discriminator of an ELECTRA, the encoder to fine-tune",
    ),
    "BertForSequenceClassification": ("text-classification", "a BERT with a classifier"),
    "ElectraForSequenceClassification": ("text-classification", "an ELECTRA with a classifier"),
}
_NOT_HYPERPARAMETERS = ("corpus", "language", "output", "resume", "num_proc", "checkpoint_every", "text_column")
_LANGUAGES = {"ko": "Korean", "en": "English"}


def model_card(
    model, tokenizer, architecture: str, name: str, run: dict | None = None, curves: Iterable[str] = ()
) -> str:
    """The card of a checkpoint, in Markdown, with the Hub's metadata block.

    Args:
      model: the 🤗 TensorFlow model.
      tokenizer: its tokenizer.
      architecture: the class that readers load, without "TF": `"BertForPreTraining"`.
      name: what the model is called.
      run: what an example's `metrics.json` holds: the final figures, `arguments`, `corpus`, `seconds`, `versions`.
        What is missing is left out.
      curves: names of pictures of the training that stand beside the card.
    """
    run = run or {}
    arguments = run.get("arguments", {})
    sections = [
        f"---\n{_metadata(model.config.model_type, architecture, name, arguments)}\n---\n{MARK}",
        f"# {name}\n\n{_introduction(model, architecture, arguments)}",
        f"## How to load it\n\n{_readers(architecture, name, tokenizer)}",
        f"## Model\n\n{_table(_model_facts(model))}",
        f"## Tokenizer\n\n{_describe_tokenizer(tokenizer)}",
    ]
    training = _describe_training(run, arguments)
    if training:
        sections.append(f"## Training\n\n{training}")
    figures = {key: value for key, value in run.items() if isinstance(value, float) and key != "tokens_per_second"}
    if figures:
        sections.append(
            "## Figures at the end of training\n\n`val_` is on documents that were held out. Nothing else was "
            f"evaluated.\n\n{_table({key: f'{value:.4g}' for key, value in sorted(figures.items())})}"
        )
    sections += [f"![Training curves]({picture})" for picture in curves]
    return "\n\n".join(sections) + "\n"


def _metadata(model_type: str, architecture: str, name: str, arguments: dict) -> str:
    corpus, base = arguments.get("corpus"), arguments.get("init_from")
    return ModelCardData(
        language=arguments.get("language"),
        library_name="transformers",
        pipeline_tag=_TASKS.get(architecture, ("feature-extraction",))[0],
        datasets=[corpus] if _is_on_hub(corpus) else None,
        base_model=base if _is_on_hub(base) else None,
        tags=["keras_pretrain", model_type, "tensorflow", "safetensors"],
    ).to_yaml()


def _introduction(model, architecture: str, arguments: dict) -> str:
    language = _LANGUAGES.get(arguments.get("language"), "")
    what = _TASKS.get(architecture, ("", f"a {architecture}"))[1]
    what = f"{what[0].upper()}{what[1:]}"
    begun = f" It continues from {_public_name(arguments['init_from'])}." if arguments.get("init_from") else ""
    of = f" for {language}" if language else ""
    return f"{what}{of}, {model.count_params():,} parameters, trained with keras_pretrain.{begun}"


def _readers(architecture: str, name: str, tokenizer) -> str:
    """Three lines for each reader."""

    def lines(kind: str) -> str:
        return (
            f"from transformers import AutoTokenizer, {kind}\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
            f'model = {kind}.from_pretrained("{name}")'
        )

    blocks = {
        "TensorFlow (transformers 4)": lines(f"TF{architecture}"),
        "PyTorch (transformers 4 and 5)": lines(architecture),
    }
    task = _TASKS.get(architecture, ("feature-extraction",))[0]
    if task != "feature-extraction":
        text = f"… {tokenizer.mask_token} …" if task == "fill-mask" else "…"
        blocks["Pipeline"] = (
            f'from transformers import pipeline\nanswers = pipeline("{task}", model="{name}")\nanswers("{text}")'
        )
    if architecture == "BertForPreTraining":
        blocks["To train on"] = (
            f'import keras_pretrain as kp\nmodel = kp.BertPretrainer.from_pretrained("{name}")\n'
            "model.compile(kp.create_optimizer(num_train_steps=10_000))"
        )
    text = "\n\n".join(f"{reader}:\n\n```python\n{block}\n```" for reader, block in blocks.items())
    return f"`{name}` stands for this folder, or for its name on the Hub.\n\n{text}"


def _model_facts(model) -> dict:
    config = model.config
    names = {
        "num_hidden_layers": "layers",
        "hidden_size": "hidden size",
        "embedding_size": "embedding size",
        "num_attention_heads": "attention heads",
        "intermediate_size": "feed-forward size",
        "hidden_act": "activation",
        "vocab_size": "vocabulary",
        "max_position_embeddings": "positions",
    }
    facts = {text: getattr(config, name) for name, text in names.items() if hasattr(config, name)}
    return facts | {"parameters": f"{model.count_params():,}", "weights": "float32"}


def _describe_tokenizer(tokenizer) -> str:
    is_lower = getattr(tokenizer, "do_lower_case", None)
    case = {True: ", lower-cased", False: ", cased"}.get(is_lower, "")
    special = ", ".join(f"`{token}`" for token in tokenizer.all_special_tokens)
    description = f"WordPiece, {len(tokenizer):,} tokens{case}; special tokens {special}."
    cleaning = cleaning_of(tokenizer)
    if cleaning in (None, "none"):
        return description
    return (
        f"{description}\n\nThe text that the model was trained on was cleaned. {describe_cleaning(cleaning)} "
        "keras_pretrain's own functions for fine-tuning, evaluation and prediction clean their texts in the same way. "
        "🤗 pipelines and a SavedModel do not: give them text cleaned with "
        f'`keras_pretrain.clean_text(text, "{cleaning}")`.'
    )


def _describe_training(run: dict, arguments: dict) -> str:
    parts = []
    if "corpus" in arguments:
        language = _LANGUAGES.get(arguments.get("language"))
        corpus = _public_name(arguments["corpus"]) if arguments["corpus"] else "the sample inside keras_pretrain"
        size = ", ".join(f"{count:,} documents for {part}" for part, count in (run.get("corpus") or {}).items())
        parts.append("Corpus: " + "; ".join(filter(None, [corpus, language, size])) + ".")
    settings = {
        name.replace("_", " "): _public_name(value) if name.startswith("init_") else value
        for name, value in sorted(arguments.items())
        if name not in _NOT_HYPERPARAMETERS and value is not None
    }
    if settings:
        parts.append(_table(settings))
    if run.get("tokens_per_second"):
        parts.append(f"{run['tokens_per_second']:,.0f} tokens a second.")
    versions = ", ".join(f"{name} {number}" for name, number in run.get("versions", {}).items())
    if versions:
        parts.append(f"Made with {versions}.")
    return "\n\n".join(parts)


def _table(facts: dict) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])


def _is_on_hub(name: str | None) -> bool:
    """A name such as `klue/bert-base`, and no folder or file of this machine."""
    return (
        bool(name)
        and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name))
        and not Path(name).exists()
        and not Path(name).suffix
    )


def _public_name(name: str) -> str:
    """A folder's last part: where it lies on somebody's disk is nobody else's business."""
    return name if _is_on_hub(name) else Path(name).name
