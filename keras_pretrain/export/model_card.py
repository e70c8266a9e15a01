"""`model_card`: writes the README.md of a checkpoint, with facts from the model and the run that made it."""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from huggingface_hub import ModelCardData
from transformers import PreTrainedTokenizerBase

from keras_pretrain.corpus.cleaning import describe_cleaning
from keras_pretrain.tokenization import cleaning_of

if TYPE_CHECKING:
    import tf_keras

MARK = "<!-- Written by keras_pretrain, which replaces it with the model until you edit it. -->"

_TASKS = {  # maps a class to its pipeline tag on the Hub and its description
    "BertForPreTraining": ("fill-mask", "BERT with its masked-language-model and next-sentence heads"),
    "BertForMaskedLM": ("fill-mask", "BERT with its masked-language-model head"),
    "ElectraForMaskedLM": ("fill-mask", "the generator of an ELECTRA"),
    "ElectraForPreTraining": ("feature-extraction", "the discriminator of an ELECTRA, the encoder to fine-tune"),
    "BertForSequenceClassification": ("text-classification", "a BERT with a classifier"),
    "ElectraForSequenceClassification": ("text-classification", "an ELECTRA with a classifier"),
}
_WHERE = {
    "corpus": "Metrics that start with `val_` are those of the validation split, the others those of training.",
    "task": "All metrics are those of the validation split, the mean over the seeds.",
}
_LANGUAGES = {"ko": "Korean", "en": "English"}
_SECTION = re.compile(r"(?<=\n## How to load it\n\n).*?(?=\n\n## )", re.DOTALL)
_PATH_ROW = re.compile(r"^\| [^|]* \| [^|]*[/\\][^|]* \|\n", re.MULTILINE)


def model_card(
    model: "tf_keras.Model",
    tokenizer: PreTrainedTokenizerBase,
    architecture: str,
    name: str,
    run: dict | None = None,
    curves: Iterable[str] = (),
    *,
    part: str = "",
    is_pair: bool = False,
) -> str:
    """Write the card of a checkpoint, in Markdown, with the Hub's metadata block.

    Args:
      model: the 🤗 TensorFlow model.
      tokenizer: its tokenizer.
      architecture: the class to load the checkpoint with, without "TF", such as `"BertForPreTraining"`.
      name: the last part of the checkpoint's path.
      run: the content of `metrics.json`: "settings", "corpus", "base", "base_model", "task", "versions", and the
        metrics at the end of training. It must not contain anything private. Facts that are missing are left out of the
        card.
      curves: file names of the training curves in the card's folder.
      part: the sub-folder of the model, such as `"generator"`.
      is_pair: whether this is an ELECTRA's discriminator with its generator in `generator/`.

    Returns:
      The text of the card.
    """
    run = run or {}
    mask = tokenizer.mask_token or "[MASK]"
    sections = [
        f"---\n{_metadata(model.config.model_type, architecture, run)}\n---\n{MARK}",
        f"# {_title(name, part)}\n\n{_introduction(model, architecture, run)}",
        f"## How to load it\n\n{_readers(architecture, name, part, mask, is_pair=is_pair)}",
        f"## Model\n\n{_table(_model_facts(model))}",
        f"## Tokenizer\n\n{_describe_tokenizer(tokenizer)}",
    ]
    training = _describe_training(run)
    if training:
        sections.append(f"## Training\n\n{training}")
    metrics = {
        key: f"{value:.4g}"
        for key, value in sorted(run.items())
        if isinstance(value, float) and math.isfinite(value) and key != "tokens_per_second"
    }
    if metrics:
        sections.append(
            f"## Metrics at the end of training\n\n{_WHERE['task' if run.get('task') else 'corpus']} The model was not "
            f"evaluated on other data.\n\n{_table(metrics)}"
        )
    sections += [f"![Training curves]({picture})" for picture in curves]
    return "\n\n".join(sections) + "\n"


def card_on_hub(card: str, repo_id: str, part: str) -> str:
    """Change a card for a repository on the Hub, so that its examples load the model from there.

    Args:
      card: the result of `model_card`, not edited.
      repo_id: `"owner/name"`.
      part: the sub-folder of the repository that holds the model; `""` for its root.

    Returns:
      The text of the card. Rows of tables that older versions filled with paths are left out.
    """
    architecture = re.search(r"AutoTokenizer, TF(\w+)", card)
    if architecture is None:  # a card of a later version may lack this line
        return card
    mask = re.search(r'answers\("… (.+) …"\)', card)
    shown = architecture[1], repo_id, part, mask[1] if mask else ""
    section = _readers(*shown, is_pair="ElectraPretrainer" in card, on_hub=True)
    card = _SECTION.sub(lambda _: section, card, count=1)
    card = re.sub(r"(?<=\n)# .*", lambda _: f"# {_title(repo_id.split('/')[-1], part)}", card, count=1)
    return _PATH_ROW.sub("", card)


def _title(name: str, part: str) -> str:
    return f"{name}: {part}" if part else name


def _metadata(model_type: str, architecture: str, run: dict) -> str:
    corpus = run.get("corpus") or {}
    return ModelCardData(
        language=corpus.get("language"),
        library_name="transformers",
        pipeline_tag=_TASKS.get(architecture, ("feature-extraction",))[0],
        datasets=[corpus["name"]] if corpus.get("on_hub") and corpus.get("name") else None,
        base_model=run.get("base_model"),
        tags=["keras_pretrain", model_type, "tensorflow", "safetensors"],
    ).to_yaml()


def _introduction(model: "tf_keras.Model", architecture: str, run: dict) -> str:
    language = _LANGUAGES.get((run.get("corpus") or {}).get("language") or "")
    what = _TASKS.get(architecture, ("", f"a {architecture}"))[1]
    what = f"{what[0].upper()}{what[1:]}" + (f" for {language}" if language else "")
    base = f" Training continued from {run['base']}." if run.get("base") else ""
    return f"{what}, {model.count_params():,} parameters, trained with keras_pretrain.{base}"


def _readers(architecture: str, name: str, part: str, mask: str, *, is_pair: bool = False, on_hub: bool = False) -> str:
    """The example code for each library."""
    path, where = f'"{name}"', ""
    if part and on_hub:
        where = f', subfolder="{part}"'
    elif part:
        path = f'"{name}/{part}"'

    def lines(kind: str) -> str:
        imports, config, given = f"AutoTokenizer, {kind}", "", ""
        if where and kind.startswith("TF"):  # transformers' TensorFlow classes would read the config of the root folder
            imports = f"AutoConfig, {imports}"
            config, given = f"config = AutoConfig.from_pretrained({path}{where})\n", ", config=config"
        return (
            f"from transformers import {imports}\n"
            f"tokenizer = AutoTokenizer.from_pretrained({path}{where})\n"
            f"{config}model = {kind}.from_pretrained({path}{where}{given})"
        )

    blocks = {
        "TensorFlow (transformers 4)": lines(f"TF{architecture}"),
        "PyTorch (transformers 4 and 5)": lines(architecture),
    }
    task = _TASKS.get(architecture, ("feature-extraction",))[0]
    if task != "feature-extraction":
        text = f"… {mask} …" if task == "fill-mask" else "…"
        source = "model=model, tokenizer=tokenizer" if where else f"model={path}"
        blocks["Pipeline"] = (
            f'from transformers import pipeline\nanswers = pipeline("{task}", {source})\nanswers("{text}")'
        )
    trainer = {"BertForPreTraining": "BertPretrainer", "ElectraForPreTraining": "ElectraPretrainer" if is_pair else ""}
    if trainer.get(architecture):
        blocks["To continue training (the generator is in `generator/`)" if is_pair else "To continue training"] = (
            f"import keras_pretrain as kp\nmodel = kp.{trainer[architecture]}.from_pretrained({path}{where})\n"
            "model.compile(kp.create_optimizer(num_train_steps=10_000))"
        )
    text = "\n\n".join(f"{reader}:\n\n```python\n{block}\n```" for reader, block in blocks.items())
    return text if on_hub else f"`{name}` stands for the path of this folder.\n\n{text}"


def _model_facts(model: "tf_keras.Model") -> dict:
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


def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    is_lower: bool | None = getattr(tokenizer, "do_lower_case", None)
    case = "" if is_lower is None else ", lower-cased" if is_lower else ", cased"
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


def _describe_training(run: dict) -> str:
    parts = []
    corpus, task = run.get("corpus") or {}, run.get("task") or {}
    if corpus:
        sizes = ", ".join(
            f"{corpus[part]:,} documents for {part}" for part in ("train", "validation") if part in corpus
        )
        facts = [corpus.get("name") or "a local corpus", _LANGUAGES.get(corpus.get("language") or ""), sizes]
        parts.append(f"Corpus: {'; '.join(filter(None, facts))}.")
    if task:
        sizes = (f"{task[part]:,} examples for {part}" for part in ("train", "validation") if part in task)
        parts.append(f"Task: {', '.join([task.get('name') or 'local labelled texts', *sizes])}.")
    settings = {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in sorted((run.get("settings") or {}).items())
        if value is not None
    }
    if settings:
        parts.append(_table(settings))
    if run.get("tokens_per_second"):
        parts.append(f"{run['tokens_per_second']:,.0f} tokens per second.")
    versions = ", ".join(f"{name} {number}" for name, number in (run.get("versions") or {}).items())
    if versions:
        parts.append(f"Made with {versions}.")
    return "\n\n".join(parts)


def _table(facts: dict) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])
