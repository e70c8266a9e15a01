"""`python -m keras_pretrain`: the same as `keras-pretrain`."""

import sys

from keras_pretrain.commands import main

if __name__ == "__main__":
    sys.exit(main())
