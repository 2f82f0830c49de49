"""How often intervals contain the truth: `python tests/support/intervals.py` prints the table of docs/summaries.md.

Two methods of one skill answer a share of the test examples differently, the same ones under another seed with the
correlation that this project's records have. Training moves their difference by a deviation between seeds.
"""

import numpy as np
from scipy.stats import norm

from lrtl_utils.study import stats

EXPERIMENTS = 1000
RECURRING = 0.2  # of the latent that decides; of the answers it makes about `stats.RECURRING`
TRAINING = (0.0, stats.TRAINING, 0.05)  # deviations between seeds: none, this project's, and a restless method's
BOTH_RIGHT = 0.8  # of the examples that the two answer alike
SHARES = (0.6, 0.3, 0.1)  # of the examples, of the classes of macro F1
METRICS = ("accuracy", "macro F1", "entity F1")
ENTITIES = 1.5  # of a sentence, on average; a wrong answer to it predicts as many


def experiment(seeds, examples, training, rng):
    """Right answers of two methods without a difference, each bool [seeds, examples]."""
    shared, own = rng.standard_normal(examples), rng.standard_normal((seeds, examples))
    latent = np.sqrt(RECURRING) * shared + np.sqrt(1 - RECURRING) * own
    shift = training * rng.standard_normal((seeds, 1))
    ahead, behind = (np.clip((stats.DISAGREEMENT + sign * shift) / 2, 1e-6, 0.5) for sign in (1, -1))
    first, second = latent > norm.isf(ahead), latent < norm.ppf(behind)
    alike = (rng.random((seeds, examples)) < BOTH_RIGHT) & ~first & ~second
    return first | alike, second | alike


def tagged(pair, rng):
    """For each method the correct, predicted and expected entities of the sentences, each right or wrong as a whole."""
    expected = rng.poisson(ENTITIES, pair[0].shape[1])
    for right in pair:
        predicted = np.where(right, expected, rng.poisson(ENTITIES, right.shape))
        yield np.stack([right * expected, predicted, np.broadcast_to(expected, right.shape)], axis=-1)


def classified(pair, rng):
    """For each method what `stats.macro_f1` counts; a wrong answer is one of the other classes at random."""
    count, classes = pair[0].shape[1], np.eye(len(SHARES), dtype=bool)
    true = rng.choice(len(SHARES), count, p=SHARES)
    for right in pair:
        answers = np.where(right, true, (true + rng.integers(1, len(SHARES), right.shape)) % len(SHARES))
        truth, predicted = np.broadcast_to(classes[true], (*right.shape, len(SHARES))), classes[answers]
        yield np.concatenate([truth & predicted, predicted, truth], axis=-1)


def coverage(seeds, examples, training, experiments=EXPERIMENTS, metric="accuracy"):
    """The share of experiments in which the percentile bootstrap, and the interval, contain zero."""
    rng, found = np.random.default_rng([seeds, examples, round(1000 * training)]), np.zeros(2)
    for _ in range(experiments):
        pair = experiment(seeds, examples, training, rng)
        if metric == "accuracy":
            outcomes, score = (np.stack([right, np.ones_like(right)], axis=-1) for right in pair), stats.accuracy
        elif metric == "macro F1":
            outcomes, score = classified(pair, rng), stats.macro_f1
        else:
            outcomes, score = tagged(pair, rng), stats.entity_f1
        differ = stats.paired(*(stats.sample(each.astype(float), score) for each in outcomes))
        bounds = stats.middle(stats.resample(differ)), stats.interval(differ, least=-1.0)
        found += [low <= 0 <= high for low, high in bounds]
    return found / experiments


def main():
    """Print the table as it goes."""
    columns = [f"{bound}, {metric}" for metric in METRICS for bound in ("bootstrap alone", "interval")]
    print(f"| seeds | test examples | deviation between seeds, points | {' | '.join(columns)} |")
    print("|---" * (3 + len(columns)) + "|")
    for training in TRAINING:
        for seeds in (3, 5, 10):
            for examples in (500, 2000):
                each = [coverage(seeds, examples, training, metric=metric) for metric in METRICS]
                shares = " | ".join(f"{share:.1%}" for share in np.concatenate(each))
                print(f"| {seeds} | {examples} | {100 * training:.1f} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
