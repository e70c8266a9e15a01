"""Fine-tunes pretrained encoders on labelled examples; the result is a classifier or regressor, and its metrics."""

from keras_pretrain.finetuning.batching import encode_examples, to_tf_dataset
from keras_pretrain.finetuning.examples import check_examples, load_examples
from keras_pretrain.finetuning.prediction import Predictions, evaluate, predict
from keras_pretrain.finetuning.training import FineTuned, finetune
from keras_pretrain.models.classifier import BertClassifier, ElectraClassifier, load_classifier

__all__ = [
    "BertClassifier",
    "ElectraClassifier",
    "FineTuned",
    "Predictions",
    "check_examples",
    "encode_examples",
    "evaluate",
    "finetune",
    "load_classifier",
    "load_examples",
    "predict",
    "to_tf_dataset",
]
