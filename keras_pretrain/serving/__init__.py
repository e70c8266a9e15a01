"""The page that `keras-pretrain serve` shows: what a checkpoint says of a text, and how a run is going."""
