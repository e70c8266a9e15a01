"""`ElectraPretrainer`: a generator fills gaps, and a discriminator finds the tokens that are not the original ones."""

import logging
import os
from typing import Any, TypeVar, cast

import tensorflow as tf
import tf_keras
from datasets import Dataset
from transformers import (
    ElectraConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    TFElectraForMaskedLM,
    TFElectraForPreTraining,
)

from keras_pretrain.compat.tf_keras import initializers_drawing_from
from keras_pretrain.features.batching import Batches
from keras_pretrain.features.masking import GLUE_PROB, IGNORED, GluedRests, describe_gluing
from keras_pretrain.models.encoder import Dropout, activation, as_rows, dense, encode, layer_norm
from keras_pretrain.models.initialization import attend_to_neighbours, cooccurrence_embeddings, token_log_frequencies
from keras_pretrain.models.judgements import Figure, Judgements, logit_histogram
from keras_pretrain.models.loading import Checkpoint, find_electra, take_download
from keras_pretrain.models.objectives import TotalLoss, count_labels, masked_crossentropy
from keras_pretrain.models.pretraining import (
    PretrainingStep,
    check_ids,
    label_capacity,
    require_fit,
    require_vocabulary,
    unpack_batch,
)
from keras_pretrain.models.products import affine
from keras_pretrain.models.sampling import choose_positions, place, sample_tokens, stream, uniform
from keras_pretrain.models.sizes import electra_sizes, new_model_settings

logger = logging.getLogger(__name__)

_Network = TypeVar("_Network", TFElectraForMaskedLM, TFElectraForPreTraining)

_TIED = ("weight", "position_embeddings", "token_type_embeddings")
_POSITIONS, _FATES, _TOKENS, _RESTS = -1, -2, -3, -4  # one number for each kind of draw; dropout uses numbers from 0 on


class ElectraPretrainer(PretrainingStep, tf_keras.Model):
    """ELECTRA (Clark et al., 2020): replaced-token detection, trained by plain `compile`, `fit` and `evaluate`.

    In each step, a share `mask_prob` of the ordinary tokens is chosen. The generator sees most of them as `[MASK]`, and
    fills them with tokens drawn from its own distribution. For every token except padding, the discriminator predicts
    whether it is the original. A filled-in token that equals the original counts as original. Both are trained at once;
    the generator's only loss is its MLM loss. In training, all draws depend on the seed, the step and
    the replica; in evaluation, on the seed and the ids of the batch.

    Batches come from `to_tf_dataset`, for features of the objective `"rtd"`. Batches of a masking collator work, too:
    the original tokens are restored from the labels before the step masks anew.

    Training and evaluation report these metrics (with the prefix `val_` for validation):

    - `loss`: `gen_weight * mlm_loss + disc_weight * disc_loss`;
    - `mlm_loss`, `mlm_accuracy`: of the generator, averaged over the chosen tokens;
    - `sampled_original`: the share of the chosen tokens for which the generator drew the original;
    - `disc_loss`: of the discriminator, averaged over all tokens except padding;
    - `replaced_accuracy`, `original_accuracy`, `disc_accuracy`, `disc_precision`, `disc_recall`, `disc_auc`: see
      `models.judgements.Judgements`.

    Args:
      generator, discriminator: a 🤗 `TFElectraForMaskedLM` and a `TFElectraForPreTraining`. An `ElectraConfig` in place
        of either makes a network with random weights.
      tokenizer: the tokenizer of both networks, which determines the special tokens. It is available as
        `model.tokenizer`.
      mask_prob: the share of the ordinary tokens to predict. For packed rows, it must equal the batches' `mask_prob`.
      replace_prob: the probability that the generator sees such a token as `[MASK]`; it sees the others unchanged.
      glue_prob: in training, if a `[MASK]` is at the beginning of a word and one `##` piece follows, the probability
        that the generator sees this piece without `##` (`입니다` instead of `##입니다`), as in a fill-mask pipeline
        (see `features.masking.GluedRests`).
      temperature: the sampling temperature of the generator.
      gen_weight, disc_weight: the weights of the two losses; the defaults are the paper's.
      tie_embeddings: both networks use the discriminator's word, position and token-type embeddings.
      gradient_accumulation_steps: compute each batch in this number of parts, with the memory of one part.
      seed: the seed for masks, draws and dropout.

    Raises:
      ValueError: vocabularies that differ, embeddings that cannot be tied, or a setting outside its range; or `fit` or
      `evaluate` is given `sample_weight` or `class_weight` (all tokens have the same weight).
      tf.errors.InvalidArgumentError: in training or evaluation, ids or token types without an embedding in the networks
      (such as negative ones).
    """

    def __init__(
        self,
        generator: TFElectraForMaskedLM | ElectraConfig,
        discriminator: TFElectraForPreTraining | ElectraConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        mask_prob: float = 0.15,
        replace_prob: float = 0.85,
        glue_prob: float = GLUE_PROB,
        temperature: float = 1.0,
        gen_weight: float = 1.0,
        disc_weight: float = 50.0,
        tie_embeddings: bool = True,
        gradient_accumulation_steps: int = 1,
        seed: int = 42,
    ) -> None:
        super().__init__()
        _check_settings(mask_prob, replace_prob, glue_prob, temperature, gradient_accumulation_steps)
        if isinstance(generator, ElectraConfig):
            generator = TFElectraForMaskedLM(generator)
        if isinstance(discriminator, ElectraConfig):
            discriminator = TFElectraForPreTraining(discriminator)
        _check_pair(generator.config, discriminator.config, tokenizer, tie_embeddings)
        self.generator, self.discriminator = generator, discriminator
        for network in (discriminator, generator):
            network.build_in_name_scope()
        self.mask_prob = mask_prob
        self.replace_prob = replace_prob
        self.glue_prob = glue_prob
        if glue_prob:
            generator.config.glue_prob = glue_prob  # read by `fill_gaps`
        self.temperature = temperature
        self.tie_embeddings = tie_embeddings
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.seed = seed
        self.head_weights = {"mlm": gen_weight, "disc": disc_weight}
        self.take_tokenizer(tokenizer)
        self._mask_token_id = tokenizer.mask_token_id
        self._special_ids = sorted(set(tokenizer.all_special_ids))
        names = ("mlm_loss", "mlm_accuracy", "sampled_original", "disc_loss")
        means = {name: tf_keras.metrics.Mean(name=name) for name in names}
        # Avoids Keras' __setattr__: the variables of a tracked metric would be among the model's weights.
        self.__dict__["_means"] = means
        self.__dict__["_judgements"] = judgements = Judgements()
        self.__dict__["_figures"] = [Figure(name, judgements) for name in judgements.result()]
        self.__dict__["_total"] = TotalLoss([(means["mlm_loss"], gen_weight), (means["disc_loss"], disc_weight)])
        self.built = True

    @property
    def metrics(self) -> list:
        return [*super().metrics, self._total, *self._means.values(), self._judgements, *self._figures]

    @property
    def config(self) -> ElectraConfig:
        """The discriminator's config."""
        return cast(ElectraConfig, self.discriminator.config)

    @classmethod
    def from_size(
        cls, size: str, tokenizer: PreTrainedTokenizerBase, *, features: Dataset | None = None, **settings: Any
    ) -> "ElectraPretrainer":
        """Make new networks; `seed` determines their weights.

        As in `BertPretrainer.from_size`, the first layers start with attention to neighbouring tokens, GELU has its
        tanh form, and there is no dropout. For many epochs, pass
        `hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1`.

        Args:
          size: the discriminator's size: `"tiny"` (2 layers of 128), `"mini"` (4 of 256), `"small"` (12 of 256),
            `"base"` (12 of 768) or `"large"` (24 of 1024). The generator has the same number of layers. Its width is a
            quarter of the discriminator's, as in the paper; for `base` a third, for `tiny` a half.
          tokenizer: the tokenizer; the networks get its vocabulary size and special tokens.
          features: the examples that the networks will be trained on. If given, the generator's bias starts from token
            frequencies and the embeddings from co-occurrence, as in `BertPretrainer.from_size`.
          **settings: arguments of the class; all others are passed to both `ElectraConfig`s, for example a `vocab_size`
            above the tokenizer's.

        Raises:
          ValueError: no such size, or a `vocab_size` below the tokenizer's.
        """
        discriminator, generator = electra_sizes(size)
        own = {"seed": 42} | {name: settings.pop(name) for name in list(settings) if name in _SETTINGS}
        smaller, larger = (
            ElectraConfig(**new_model_settings(tokenizer, widths | settings)) for widths in (generator, discriminator)
        )
        with initializers_drawing_from(own["seed"]):
            model = cls(smaller, larger, tokenizer, **own)
        for network in (model.generator, model.discriminator):
            attend_to_neighbours(network.electra, seed=model.seed)
        if features is not None:
            vocab_size = model.config.vocab_size
            frequencies = token_log_frequencies(features, tokenizer, vocab_size)
            model.generator.generator_lm_head.bias.assign(frequencies)
            start = {"initializer_range": model.config.initializer_range, "seed": model.seed}
            words = cooccurrence_embeddings(features, tokenizer, vocab_size, model.config.embedding_size, **start)
            for network in (model.generator, model.discriminator):
                network.electra.embeddings.weight.assign(words)
        return model

    @classmethod
    def from_pretrained(
        cls,
        discriminator: str | os.PathLike[str],
        generator: str | os.PathLike[str] | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        **settings: Any,
    ) -> "ElectraPretrainer":
        """Load both networks from a folder that `save_checkpoint` wrote, or from two checkpoints.

        Args:
          discriminator: a folder or a name on the Hub.
          generator: a folder or a name on the Hub. Default: `generator/` in the discriminator's folder or repository.
          tokenizer: the tokenizer. Default: the discriminator's.
          **settings: arguments of the class; and `subfolder`, `revision`, `token`, `cache_dir` and `local_files_only`
            of a checkpoint on the Hub, as for `models.loading.find_electra`.

        Returns:
          An `ElectraPretrainer`.

        Raises:
          FileNotFoundError: a checkpoint, its weights or the tokenizer is missing.
          ValueError: a checkpoint is damaged; the two are not an ELECTRA discriminator and generator with the same
            vocabulary; or their embeddings must be tied but differ.
          ModuleNotFoundError: only torch can read the weights, and torch (the extra `torch`) is missing.
        """
        found, beside = find_electra(discriminator, generator, **take_download(settings))
        if tokenizer is None:
            tokenizer = found.tokenizer()
        fills = _load(TFElectraForMaskedLM, beside, "generator")
        judges = _load(TFElectraForPreTraining, found, "discriminator")
        if settings.get("tie_embeddings", True):
            _require_equal_embeddings(fills, judges)
        return cls(fills, judges, tokenizer, **settings)

    def take_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Use this tokenizer, and tie the networks' embeddings, which may have grown with it."""
        self.__dict__["tokenizer"] = tokenizer  # avoids Keras' tracking
        self.__dict__["_rests"] = GluedRests(tokenizer) if self.glue_prob else None
        if self.tie_embeddings:
            _tie(self.generator.electra.embeddings, self.discriminator.electra.embeddings)

    def call(self, inputs: dict[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """The discriminator's logits, (batch, length): above 0 means "replaced"."""
        return self.discriminator(inputs, training=training).logits

    def require_fit(self, tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
        """Raise an error, before training, for a tokenizer or block size for which the networks have too few
        embeddings.

        Raises:
          ValueError: more tokens than `vocab_size`, or longer blocks than `max_position_embeddings`.
        """
        for network in (self.discriminator, self.generator):
            require_fit(network.config, tokenizer, block_size)

    def description(self) -> dict:
        """The settings that determine the model and its training step."""
        names = ("mask_prob", "replace_prob", "temperature", "tie_embeddings", "gradient_accumulation_steps", "seed")
        return {
            "generator": self.generator.config.to_dict(),
            "discriminator": self.discriminator.config.to_dict(),
            "head_weights": dict(self.head_weights),
            **{name: getattr(self, name) for name in names},
            # Earlier versions did not record this setting, so a run that does not use it leaves it out.
            **describe_gluing(self.glue_prob),
        }

    def replace_tokens(self, inputs: dict, step: int = 0) -> dict[str, tf.Tensor]:
        """Mask, fill and judge a batch as in a training step, but without dropout and without training.

        Args:
          inputs: the unmasked inputs of a batch.
          step: a number that determines the draws.

        Returns:
          A dictionary of (batch, length) tensors: `masked_ids`, the generator's input; `sampled_ids`, the
          discriminator's input; `is_replaced` (bool); `probability` (float32), the discriminator's probability of
          "replaced".
        """
        seed = tf.constant([self.seed, step])
        batch = self._prepare(unpack_batch(inputs), seed, training=True)
        _, sampled_ids, _ = self._generate(batch, seed, 0, None)
        logits = self._judge(batch, sampled_ids, None)
        return {
            "masked_ids": batch["masked_ids"],
            "sampled_ids": sampled_ids,
            "is_replaced": sampled_ids != batch["input_ids"],
            "probability": tf.sigmoid(logits),
        }

    def _unpack(self, data: Any) -> dict:
        batch = unpack_batch(data)
        if "labels" in batch and "masked_positions" in batch:
            is_predicted = batch["masked_positions"] >= 0
            batch["input_ids"] = place(batch["input_ids"], batch["masked_positions"], is_predicted, batch["labels"])
        elif "labels" in batch:
            batch["input_ids"] = tf.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        return {name: value for name, value in batch.items() if name not in ("labels", "next_sentence_label")}

    def _check(self, batch: dict[str, tf.Tensor]) -> list:
        return check_ids(batch, self.generator.config, self.discriminator.config)

    def _counts(self, batch: dict[str, tf.Tensor]) -> dict:
        targets = self._prepare(batch, tf.zeros((2,), tf.int32))["targets"]  # the number is the same for every seed
        return {"mlm": count_labels(targets), "disc": tf.reduce_sum(tf.cast(batch["attention_mask"], tf.float32))}

    def _check_batches(self, batches: Batches) -> None:
        collator = batches.collator
        if batches.is_masked and collator.glue_prob and collator.rests.continues.any():
            raise ValueError(
                "These batches were masked with glue_prob, which also rewrites the rest of a word after a gap. ELECTRA "
                "needs the original tokens, and cannot restore the rewritten ones. Build the features with "
                "objective='rtd', or make the batches with glue_prob=0."
            )
        if batches.packing is not None and collator.mask_prob != self.mask_prob:
            raise ValueError(
                f"The packed rows were made with mask_prob={collator.mask_prob}, but the model has "
                f"mask_prob={self.mask_prob}. Give kp.to_tf_dataset the mask_prob of the model."
            )

    def _prepare(self, batch: dict[str, tf.Tensor], seed: tf.Tensor, *, training: bool = False) -> dict:
        """Choose positions and mask them, for the whole batch at once. The positions of packed rows are already
        chosen."""
        ids = batch["input_ids"]
        if "masked_positions" in batch:
            positions, is_chosen = tf.maximum(batch["masked_positions"], 0), batch["masked_positions"] >= 0
            return batch | self._mask(ids, positions, is_chosen, seed, training)
        is_special = tf.reduce_any(ids[:, :, tf.newaxis] == tf.constant(self._special_ids, tf.int32), axis=-1)
        candidates = (batch["attention_mask"] > 0) & ~is_special
        capacity = label_capacity(self.mask_prob, ids.shape[1])
        positions, is_chosen = choose_positions(candidates, self.mask_prob, capacity, stream(seed, _POSITIONS))
        return batch | self._mask(ids, positions, is_chosen, seed, training)

    def _mask(
        self, ids: tf.Tensor, positions: tf.Tensor, is_chosen: tf.Tensor, seed: tf.Tensor, training: bool
    ) -> dict:
        fates = uniform(tf.shape(positions), stream(seed, _FATES))
        is_gap = is_chosen & (fates < self.replace_prob)
        masked_ids = place(ids, positions, is_gap, self._mask_token_id)
        if training and self._rests is not None:
            gaps, chosen = (place(tf.zeros_like(ids), positions, each, 1) > 0 for each in (is_gap, is_chosen))
            masked_ids = self._glue(ids, masked_ids, gaps, chosen, seed)
        targets = tf.where(is_chosen, tf.gather(ids, positions, batch_dims=1), IGNORED)
        return {"positions": positions, "targets": targets, "masked_ids": masked_ids}

    def _glue(
        self, ids: tf.Tensor, masked_ids: tf.Tensor, is_gap: tf.Tensor, is_chosen: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Find rests of words like `GluedRests.behind`, and replace each of them with probability `glue_prob`."""
        before = tf.zeros_like(is_gap[:, :1])
        continues = tf.gather(tf.constant(self._rests.continues), ids)
        beginnings = tf.gather(tf.constant(self._rests.beginnings), ids)
        follows_gap = tf.concat([before, (is_gap & ~continues)[:, :-1]], axis=1)
        ends_word = ~tf.concat([continues[:, 1:], before], axis=1)
        is_drawn = uniform(tf.shape(ids), stream(seed, _RESTS)) < self.glue_prob
        return tf.where(follows_gap & ends_word & ~is_chosen & (beginnings >= 0) & is_drawn, beginnings, masked_ids)

    def _sums(
        self, batch: dict[str, tf.Tensor], seed: tf.Tensor, part: tf.Tensor | int, dropout: Dropout | None
    ) -> dict:
        logits, sampled_ids, samples = self._generate(batch, seed, part, dropout)
        targets = batch["targets"]
        loss, correct, count = masked_crossentropy(logits, targets)
        judged = self._judge(batch, sampled_ids, dropout)
        is_replaced = sampled_ids != batch["input_ids"]
        real = tf.cast(batch["attention_mask"], tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(is_replaced, tf.float32), logits=judged)
        return {
            "mlm_loss": loss,
            "mlm_correct": correct,
            "mlm_count": count,
            "sampled_original": tf.reduce_sum(tf.cast((samples == targets) & (targets != IGNORED), tf.float32)),
            "disc_loss": tf.reduce_sum(losses * real),
            "disc_count": tf.reduce_sum(real),
            "judgements": logit_histogram(tf.stop_gradient(judged), is_replaced, real),
        }

    def _generate(
        self, batch: dict[str, tf.Tensor], seed: tf.Tensor, part: tf.Tensor | int, dropout: Dropout | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the generator's logits at the chosen positions, (batch * chosen, vocabulary); the ids with its draws
        at these positions, (batch, length); and the draws, (batch, chosen)."""
        generator, positions = self.generator, batch["positions"]
        hidden = encode(generator.electra, batch | {"input_ids": batch["masked_ids"]}, positions, dropout)
        hidden = activation("gelu")(dense(generator.generator_predictions.dense, as_rows(hidden)))  # fixed, as in 🤗
        hidden = layer_norm(generator.generator_predictions.LayerNorm, hidden)
        table, bias = generator.electra.embeddings.weight, generator.generator_lm_head.bias
        (logits,) = affine(hidden, [table], [bias], transpose=True)
        logits = tf.cast(logits, tf.float32)
        samples = sample_tokens(logits, self.temperature, stream(seed, _TOKENS, part))
        samples = tf.reshape(samples, (-1, positions.shape[1]))
        sampled_ids = place(batch["input_ids"], positions, batch["targets"] != IGNORED, samples)
        return logits, sampled_ids, samples

    def _judge(self, batch: dict[str, tf.Tensor], sampled_ids: tf.Tensor, dropout: Dropout | None) -> tf.Tensor:
        """The discriminator's logits, (batch, length) float32."""
        head, config = self.discriminator.discriminator_predictions, self.discriminator.config
        hidden = encode(self.discriminator.electra, batch | {"input_ids": sampled_ids}, dropout=dropout)
        hidden = activation(config.hidden_act)(dense(head.dense, as_rows(hidden)))
        logits = tf.cast(dense(head.dense_prediction, hidden), tf.float32)
        return tf.reshape(logits, (-1, sampled_ids.shape[1]))

    def _report(self, sums: dict[str, tf.Tensor]) -> dict:
        means = {
            "mlm_loss": (sums["mlm_loss"], sums["mlm_count"]),
            "mlm_accuracy": (sums["mlm_correct"], sums["mlm_count"]),
            "sampled_original": (sums["sampled_original"], sums["mlm_count"]),
            "disc_loss": (sums["disc_loss"], sums["disc_count"]),
        }
        for name, (total, count) in means.items():
            self._means[name].update_state(total / tf.maximum(count, 1.0), sample_weight=count)
        self._judgements.update_state(sums["judgements"])
        return {
            "loss": self._total.result(),
            **{name: mean.result() for name, mean in self._means.items()},
            **self._judgements.result(),
        }

    def _trained_variables(self, batch: dict[str, tf.Tensor]) -> list:
        return self.trainable_variables


_SETTINGS = (
    "mask_prob", "replace_prob", "glue_prob", "temperature", "gen_weight", "disc_weight", "tie_embeddings",
    "gradient_accumulation_steps", "seed",
)  # fmt: skip


def _check_settings(
    mask_prob: float, replace_prob: float, glue_prob: float, temperature: float, gradient_accumulation_steps: int
) -> None:
    if not 0 <= glue_prob <= 1:
        raise ValueError(f"glue_prob is a share, from 0 to 1, not {glue_prob}.")
    for name, value in (("mask_prob", mask_prob), ("replace_prob", replace_prob)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} is a share, above 0 and at most 1, not {value}.")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}.")
    if gradient_accumulation_steps < 1:
        raise ValueError(f"gradient_accumulation_steps must be at least 1, not {gradient_accumulation_steps}.")


def _check_pair(
    generator: PretrainedConfig,
    discriminator: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    tie_embeddings: bool,
) -> None:
    if tokenizer.mask_token_id is None:
        raise ValueError("The tokenizer has no mask token; a BERT or ELECTRA tokenizer is needed.")
    if generator.vocab_size != discriminator.vocab_size:
        raise ValueError(
            f"The generator's vocabulary has {generator.vocab_size} tokens and the discriminator's "
            f"{discriminator.vocab_size}: both must have the same tokenizer."
        )
    require_vocabulary(discriminator, tokenizer)
    if tie_embeddings:
        _check_sizes(generator, discriminator)


def _check_sizes(generator: PretrainedConfig, discriminator: PretrainedConfig) -> None:
    for name in ("vocab_size", "embedding_size", "max_position_embeddings", "type_vocab_size"):
        sizes = getattr(generator, name), getattr(discriminator, name)
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"Embeddings cannot be tied: the generator's {name} is {sizes[0]}, the discriminator's {sizes[1]}. "
                "Give them one size, or tie_embeddings=False."
            )


def _tie(generator_embeddings: tf_keras.layers.Layer, discriminator_embeddings: tf_keras.layers.Layer) -> None:
    for name in _TIED:
        setattr(generator_embeddings, name, getattr(discriminator_embeddings, name))


def _require_equal_embeddings(generator: TFElectraForMaskedLM, discriminator: TFElectraForPreTraining) -> None:
    """Raise an error if the embeddings of the two checkpoints differ, because tying would discard the generator's."""
    _check_sizes(generator.config, discriminator.config)
    for name in _TIED:
        ours, theirs = (getattr(network.electra.embeddings, name) for network in (generator, discriminator))
        difference = float(tf.reduce_max(tf.abs(ours - theirs)))
        if difference > 1e-3:
            raise ValueError(
                f"The generator's and the discriminator's {name.replace('weight', 'word_embeddings')} differ by up to "
                f"{difference:.3g}: they were not trained together. Give tie_embeddings=False to keep both."
            )


def _load(kind: type[_Network], checkpoint: Checkpoint, role: str) -> _Network:
    with checkpoint.readable() as folder:
        network, information = kind.from_pretrained(folder, output_loading_info=True)
    heads = {"generator": "generator_predictions", "discriminator": "discriminator_predictions"}
    other = "discriminator" if role == "generator" else "generator"
    if any(heads[other] in name for name in information["unexpected_keys"]):
        raise ValueError(f"{checkpoint.name} is an ELECTRA {other}, but was given as the {role}.")
    new = sorted(name for name in information["missing_keys"])
    if new:
        message = "%s: %d weights are not in the checkpoint and start at random: %s"
        logger.warning(message, checkpoint.name, len(new), new)
    return network
