"""Which family is a line's language of? Recurrent features in a Pipeline of scikit-learn.

    pip install scikit-learn
    python examples/sklearn_pipeline.py

The trained LSTM of language_id.py reads a line byte by byte; a logistic regression learns from its
last states what that model was never asked: Romance, Germanic, Slavic or Turkic. No class is needed
in between: a PackedSequence has a length and takes indices, which is all that cross-validation asks
of X, and FunctionTransformer makes a step of any function. The lines start in the form that
hmmlearn takes: X, all rows end to end, and their lengths.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from packseq import LSTM, PackedSequence, embedding, pack_sequence, weights

HERE = Path(__file__).parent
FAMILIES = {
    "Romance": ["es", "fr", "it", "pt"],
    "Germanic": ["de", "en", "nl"],
    "Slavic": ["cs", "pl", "ru", "uk"],
    "Turkic": ["tr"],
}
FAMILY_OF = {language: family for family, languages in FAMILIES.items() for language in languages}

ARRAYS = weights.read(HERE / "language_id.safetensors")
TABLE = ARRAYS["embedding.weight"]
NETWORK = LSTM.from_state_dict(ARRAYS, prefix="lstm.")


def read_lines():
    """X, the bytes of all lines, (N,); lengths, (B,); and the family of each."""
    rows = [
        row.split("\t") for row in (HERE / "held_out.tsv").read_text(encoding="utf-8").splitlines()
    ]
    lines = [text.encode() for _, text in rows]
    X = np.frombuffer(b"".join(lines), np.uint8)
    return X, [len(line) for line in lines], np.array([FAMILY_OF[language] for language, _ in rows])


def packed_from(X, lengths):
    """From hmmlearn's form; `to_ragged()[0]` and `lengths` of the result are that form again."""
    return PackedSequence.from_ragged(X, np.cumsum([0, *lengths]))


def last_states(lines):
    """(B, 2 * H): where the LSTM ends in both directions.

    Of a batch, or of a list of sequences, which is what scikit-learn makes of a part of one.
    """
    ids = lines if isinstance(lines, PackedSequence) else pack_sequence(lines)
    _, (last, _) = NETWORK(embedding(TABLE, ids))
    return np.concatenate([*last], axis=-1)


def make_model():
    return make_pipeline(
        FunctionTransformer(last_states), StandardScaler(), LogisticRegression(max_iter=1000)
    )


def main():
    X, lengths, families = read_lines()
    lines = packed_from(X, lengths)
    scores = cross_val_score(make_model(), lines, families, cv=3)
    print(f"Accuracy of three folds: {', '.join(f'{score:.1%}' for score in scores)}")

    # A hundred lines are enough where the features are good.
    few, others, of_few, of_others = train_test_split(
        lines, families, train_size=100, stratify=families, random_state=0
    )
    model = make_model().fit(few, of_few)
    score = model.score(others, of_others)
    print(f"Trained on {len(few)} lines, on {len(others):,} others: {score:.1%}")
    asked = ["Dónde está la biblioteca", "Waar is de bibliotheek?", "Kütüphane nerede"]
    answers = model.predict([np.frombuffer(line.encode(), np.uint8) for line in asked])
    for line, family in zip(asked, answers, strict=True):
        print(f"  {family:<8}  {line}")


if __name__ == "__main__":
    main()
