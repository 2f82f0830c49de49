import numpy as np
import pytest
from sample_files import measured, read, texts
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from lrtl_utils.data.catalog import TASKS
from lrtl_utils.data.load import load
from lrtl_utils.errors import InputError
from lrtl_utils.methods import loop as training
from lrtl_utils.runs.run import Run


def tfidf_accuracies(name):
    """On the rest of five stratified splits, of which 80% were trained on."""
    inputs, labels = np.array(texts(name)), np.array([row["label"] for row in read(name)])
    for train, test in StratifiedShuffleSplit(5, test_size=0.2, random_state=0).split(inputs, labels):
        vectorizer = TfidfVectorizer(ngram_range=(1, 2))
        solver = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(inputs[train]), labels[train])
        yield solver.score(vectorizer.transform(inputs[test]), labels[test])


@pytest.mark.parametrize("name", ["news_sample", "reviews_sample"])
def test_counting_words_does_not_solve_it(name):
    accuracies = list(tfidf_accuracies(name))
    assert max(accuracies) < 0.9
    assert np.mean(accuracies) > 1.15 / len(TASKS[name].classes)  # and it is no noise
    assert 100 * np.mean(accuracies) == pytest.approx(measured(name)[0], abs=6)


@pytest.mark.slow
def test_a_probe_trained_on_the_news_sample_reads_real_news(tmp_path):
    """The real AG News, where `LRTL_MIRROR` holds it; 25% would be chance."""
    try:
        real = load("ag_news")
    except InputError:
        pytest.skip("AG News is not on this machine")
    probe = Run(dataset="news_sample", method="linear_probe", data_fraction=1, results=tmp_path)
    probe.fit(*probe.label())
    assert np.mean(training.predict(probe.model, real.test, probe.config).predicted == real.test.targets) > 0.8
