"""Defines the model sizes by name, and learning rates for them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# Layers, hidden size, attention heads. tiny, mini and small come from Turc et al. (2019, "Well-Read Students Learn
# Better"), base and large from Devlin et al. (2019). Heads are 64 wide, and the feed-forward layer has four times the
# hidden size.
BERT_SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
}

# Layers, hidden size, embedding size, attention heads, and the generator's share of the width: small, base and large
# come from Clark et al. (2020), table 6; mini is small with fewer layers; tiny is for tests and first steps.
ELECTRA_SIZES = {
    "tiny": (2, 128, 64, 2, 1 / 2),
    "mini": (4, 256, 128, 4, 1 / 4),
    "small": (12, 256, 128, 4, 1 / 4),
    "base": (12, 768, 768, 12, 1 / 3),
    "large": (24, 1024, 1024, 16, 1 / 4),
}

# Peak learning rates to start from. For `mini`, 1e-3 was measured: its MLM loss was 7.03 after 300 of 600 steps, and
# 7.13 with 5e-4. Base and large have the paper's rates. The rates of tiny and small were not measured.
LEARNING_RATES = {"tiny": 1e-3, "mini": 1e-3, "small": 5e-4, "base": 1e-4, "large": 1e-4}
# For `small`, 1e-4 was measured: the AUC of "replaced" was 0.66 after 160 of 600 steps of 16 sequences; 2e-4 gave 0.62,
# and 4e-4 0.57. Base and large have half of the paper's rates, which are for batches of 256 and 2,048. Tiny, base and
# large were not measured.
ELECTRA_LEARNING_RATES = {"tiny": 1e-3, "mini": 1e-3, "small": 1e-4, "base": 1e-4, "large": 1e-4}

# Peak learning rates for fine-tuning, each with the largest hidden size for which it holds. For a BERT of width 256,
# 3e-4 was worse, and 5e-5 not better (docs/experiments.md). ELECTRA's paper fine-tunes a width of 256 with 3e-4. The
# other rates were not measured.
_FINETUNING_LEARNING_RATES = {
    "bert": {128: 3e-4, 512: 1e-4, 768: 5e-5, 1024: 3e-5},
    "electra": {256: 3e-4, 512: 1e-4, 768: 5e-5, 1024: 3e-5},
}


def bert_size(size: str) -> dict:
    """The settings of a size, as keyword arguments of `BertConfig`.

    Raises:
      ValueError: there is no size of that name.
    """
    if size not in BERT_SIZES:
        raise ValueError(f"There is no size {size!r}; choose one of {', '.join(BERT_SIZES)}.")
    layers, hidden, heads = BERT_SIZES[size]
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


def electra_sizes(size: str) -> tuple[dict, dict]:
    """The settings of a size, as keyword arguments of `ElectraConfig`: the discriminator's and the generator's.

    Raises:
      ValueError: there is no size of that name.
    """
    if size not in ELECTRA_SIZES:
        raise ValueError(f"There is no size {size!r}; choose one of {', '.join(ELECTRA_SIZES)}.")
    layers, hidden, embedding, heads, share = ELECTRA_SIZES[size]

    def settings(heads: int) -> dict:
        width = heads * hidden // ELECTRA_SIZES[size][3]
        return {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "embedding_size": embedding,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
        }

    return settings(heads), settings(round(heads * share))


def new_model_settings(tokenizer: "PreTrainedTokenizerBase", settings: dict) -> dict:
    """Return the settings of a new model: defaults, which `settings` (of the size and of the caller) override.

    Raises:
      ValueError: `vocab_size` is smaller than the number of the tokenizer's tokens.
    """
    longest = tokenizer.model_max_length if tokenizer.model_max_length < 1e6 else 512
    settings = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": max(512, longest),
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    } | settings
    if settings["vocab_size"] < len(tokenizer):
        raise ValueError(
            f"vocab_size is {settings['vocab_size']}, but the tokenizer has {len(tokenizer)} tokens; leave vocab_size "
            "out, or give a larger one."
        )
    return settings


def finetuning_learning_rate(config: "PretrainedConfig") -> float:
    """Choose a peak learning rate for fine-tuning a BERT or an ELECTRA: the wider the encoder, the lower the rate."""
    for hidden, learning_rate in _FINETUNING_LEARNING_RATES[config.model_type].items():
        if config.hidden_size <= hidden:
            return learning_rate
    return 1e-5
