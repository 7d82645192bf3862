"""What data sets call their parts: trained on, validated on, tested on."""

from __future__ import annotations

import re

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"

_WORDS = {
    TRAINING: {"train", "training", "trainset", "trainingset", "trains", "trained"},
    VALIDATION: {
        "val", "vals", "valid", "validation", "validate", "valset", "validset", "dev", "devel",
        "devset", "development", "eval", "evaluation", "tune", "tuning", "calibration",
    },
    TESTING: {
        "test", "tests", "testing", "testset", "tested", "holdout", "heldout", "holdouts", "unseen",
        "locked", "inference",
    },
}  # fmt: skip

#: Words that say a part only where nothing stands beside them.
_ALONE = {"tr": TRAINING, "trn": TRAINING, "va": VALIDATION, "ts": TESTING, "te": TESTING}
_ALONE |= {"tst": TESTING, "vl": VALIDATION, "trainval": TRAINING}

#: Between words: other characters than letters, or nothing before a capital.
_BETWEEN = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])")


def words_of(name: str) -> list[str]:
    """``"HoldOut_set 2"`` -> ``["hold", "out", "set"]``: a name's words in lower case."""
    return [word.casefold() for word in _BETWEEN.split(name) if word]


def kind_of(name: str) -> str:
    """The part that a name says; "" where it says none.

    ``valid``, ``Dev set`` and ``val_1`` are validation, ``hold-out`` and ``Test `` testing.
    """
    words = re.sub(r"\b(hold|held) out\b", "holdout", " ".join(words_of(name))).split()
    if len(words) == 1 and words[0] in _ALONE:
        return _ALONE[words[0]]
    said = {kind for kind, own in _WORDS.items() if own & set(words)}
    # What is called train and val holds both: nothing of it was kept apart.
    return next((kind for kind in (TESTING, TRAINING, VALIDATION) if kind in said), "")


def kept_apart(part: str) -> bool:
    """Whether cases of the part are never trained on."""
    return kind_of(part) in (VALIDATION, TESTING)
