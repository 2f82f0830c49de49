"""The one template of the five task notebooks. `python tests/support/task_notebooks.py` writes those that differ.

The quickstart is executed, so that its outputs can be read before anything is installed.
"""

import sys
from pathlib import Path

import nbformat

from lrtl_utils.config import RunConfig
from lrtl_utils.runs.notebook import refresh

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"

HEADINGS = {
    "00_quickstart": """# Quickstart: one run, from data to record
A small pre-trained model (all-MiniLM-L6-v2, called `minilm` here) learns news topics from a tenth of the labels. Run
all cells: it takes seconds on two cores and downloads nothing, because the texts and the weights were installed with
the project. Then change a parameter and run again. `method="linear_probe"` is the cheapest way to use the same model;
`method="conventional"` is what a typical example script does.""",
    "10_text_classification": """# Text classification
Which topic is a text about? `news_sample` comes with the project, and `ag_news` is the real data set. You can also give
the path of a file or folder of your own. The default model, `minilm`, is all-MiniLM-L6-v2; `minilm_l3`, which is
half as deep, is installed too.""",
    "11_sentiment_analysis": """# Sentiment analysis
Does the writer like it? `reviews_sample` comes with the project: irony, concessions and faint praise make it hard for a
method that only counts words. `sst2` and `imdb` are the real data sets. The default model, `minilm`, is
all-MiniLM-L6-v2; `minilm_l3`, which is half as deep, is installed too.""",
    "12_image_classification": """# Image classification
What is in the picture? `digits` and the weights of `efficientnet_lite0`, `efficientnet_lite1` and `efficientnet_lite2`
come with installed packages. `cifar10` and `fashion_mnist` are the real data sets. You can also give a folder with one
sub-folder of images for each class.""",
    "13_named_entity_recognition": """# Named entity recognition
Which words name a person, an organisation, a place, or something else with a name? `entities_sample` comes with the
project, and `conll2003` is the real data set. The head of `minilm_crf` (all-MiniLM-L6-v2 with a CRF) reads the first
sub-word of each word and scores a sequence of tags as a whole. `minilm_l3_crf`, which is half as deep, is installed
too.""",
}
DEFAULTS = {
    "00_quickstart": {},
    "10_text_classification": {},
    "11_sentiment_analysis": {"dataset": "reviews_sample"},
    "12_image_classification": {"dataset": "digits", "model": "efficientnet_lite0", "method": "linear_probe"},
    "13_named_entity_recognition": {"dataset": "entities_sample", "model": "minilm_crf"},
}
GROUPS = {
    "What you will change first": ("dataset", "model", "method", "data_fraction", "seed", "learning_rate"),
    "Everything below may stay as it is.\n\n# Your own files": ("text_column", "label_column", "drop_leaks"),
    "How many labels: shots beats train_size beats data_fraction": (
        "train_size",
        "shots",
        "selection",
        "validation_share",
    ),
    "How to train": (
        "epochs",
        "batch_size",
        "accumulate",
        "optimizer",
        "scheduler",
        "warmup_steps",
        "dropout",
        "weight_decay",
        "max_grad_norm",
        "class_weights",
        "augment",
        "without",
    ),
    "What a head reads, and how it is solved": (
        "layers",
        "penalty",
        "word_shape",
        "label_names",
    ),
    "Limits": ("max_length", "padding", "image_size", "budget_seconds", "test_limit", "precision", "device"),
}
PLACES = {
    "results": ("../results/local", "folder of the records"),
    "save_model": (None, "folder for the trained model; None saves none"),
    "plan": (None, "set by a sweep: the run that it has planned"),
}

KINDS = {
    "00_quickstart": "text",
    "10_text_classification": "text",
    "11_sentiment_analysis": "text",
    "12_image_classification": "image",
    "13_named_entity_recognition": "tokens",
}
TABLE_OF_EXAMPLES = 'pd.set_option("display.max_colwidth", {width})\nsplits.preview(run.data, run.data.train)'
PICTURES = {  # by kind: the first examples, the labelled ones, the scores, where it is wrong, and the mistakes
    "text": (
        TABLE_OF_EXAMPLES.format(width=120),
        """figure, axes = plt.subplots(1, 2, figsize=(10, 3))
figures.class_balance(train.targets, run.data.classes, axes[0])
figures.text_lengths([len(text.split()) for text in train.inputs], axes[1]);""",
        "Scores are fractions in [0, 1]. Precision, recall and F1 are means over the classes.",
        """size = 2 + 0.5 * min(len(run.data.classes), figures.MOST_NAMED)
figures.confusion(tested.metrics["confusion"], run.data.classes, plt.subplots(figsize=(size, size))[1]);""",
        "tested.mistakes()",
    ),
    "image": (
        """labels = [run.data.classes[target] for target in run.data.train.targets[:16]]
figures.tiles(run.data.train.inputs[:16], labels, plt.subplots(figsize=(10, 3))[1], columns=8);""",
        "figures.class_balance(train.targets, run.data.classes, plt.subplots(figsize=(5, 3))[1]);",
        "Scores are fractions in [0, 1]. Precision, recall and F1 are means over the classes.",
        """size = 2 + 0.5 * min(len(run.data.classes), figures.MOST_NAMED)
figures.confusion(tested.metrics["confusion"], run.data.classes, plt.subplots(figsize=(size, size))[1]);""",
        """wrong = tested.mistakes()
titles = wrong["true"] + " → " + wrong["predicted"]
figures.tiles(wrong["input"], titles, plt.subplots(figsize=(10, 4))[1]);""",
    ),
    "tokens": (
        TABLE_OF_EXAMPLES.format(width=200),
        """figure, axes = plt.subplots(1, 2, figsize=(10, 3))
balance = figures.class_balance(run.data.strata(train), run.data.strata_names, axes[0])
balance.set_xlabel("sentences, by their rarest entity type")
figures.text_lengths([len(words) for words in train.inputs], axes[1]);""",
        "Precision, recall and F1 are over whole entities (strict IOB2); accuracy is over words.",
        'pd.DataFrame(tested.metrics["per_class"]).T.round(3)',
        "tested.mistakes()",
    ),
}


def parameters(name: str) -> str:
    """The parameter cell: every knob with its default and its description, in groups."""
    lines, fields = [], RunConfig.model_fields
    for title, knobs in GROUPS.items():
        values = {knob: DEFAULTS[name].get(knob, fields[knob].default) for knob in knobs}
        lines += [f"# {title}", *(_line(knob, values[knob], fields[knob].description) for knob in knobs), ""]
    lines += ["# Places", *(_line(place, *about) for place, about in PLACES.items())]
    return "\n".join(lines)


def _line(name: str, value: object, about: str) -> str:
    written = f'"{value}"' if isinstance(value, str) else value
    return f"{name} = {written}  # {about}"


def notebook(name: str) -> nbformat.NotebookNode:
    """The task notebook of that name, without outputs."""
    examples, labelled, scores, wrong, mistakes = PICTURES[KINDS[name]]
    previewer = "" if KINDS[name] == "image" else "from lrtl_utils.data import splits\n"
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [
        text(HEADINGS[name]),
        text(
            "## Parameters\nThe first six are for you to change; the others may stay as they are. For a "
            "hyperparameter, `None` is *the method's\nown default*; the table below shows which value is used."
        ),
        code(parameters(name), metadata={"tags": ["parameters"]}),
        code(
            f"import matplotlib.pyplot as plt\nimport pandas as pd\n\nfrom lrtl_utils import Run\n{previewer}"
            "from lrtl_utils.deploy import export\nfrom lrtl_utils.study import figures\n\nfigures.style()"
        ),
        text(
            "## The run\nEverything is checked here, the data is loaded, and every `None` becomes the method's own "
            "value. The table shows what was\nasked for and what is used, without the parameters that have neither. A "
            "dash in the column `used` marks a parameter that\nhas no effect here, or that the data or the model "
            "decides. The same configuration, data, weights and method always have\nthe same id."
        ),
        code('run = Run.from_parameters(globals())\nrun.settings[run.settings.ne("–").any(axis=1)]'),
        text("## The data\nThe first examples of the train split, with their labels."),
        code(examples),
        text(
            "## The labels\nThe clock starts here. The method trains on `train`; `validation` is held out. Without "
            "a validation split,\n`validation` is None."
        ),
        code("train, validation = run.label()"),
        code(labelled),
        text("## Training\nThe clock runs. An interrupted run continues from its last checkpoint."),
        code("curve = run.fit(train, validation)"),
        code("figures.learning_curve(curve, plt.subplots(figsize=(5, 3))[1]);"),
        text(
            "## The model\nWhere its weights came from, how many parameters it has, and how many of them the method "
            "trained."
        ),
        code("pd.Series(run.describe_model()).to_frame(run.config.model)"),
        text(
            "## The test split\nIt is predicted once, and off the clock. The record, one JSON file with all that the "
            "summary notebooks read, is written\nimmediately. If this run already has a record, that one is kept. "
            f"{scores}"
        ),
        code("tested = run.test()\nrecord = run.record(tested)"),
        code(
            'names = ["accuracy", "precision", "recall", "f1", "loss"]\n'
            'pd.Series(tested.metrics)[names].astype(float).round(4).to_frame("test")'
        ),
        code(wrong),
        text("These are the mistakes about which the model is most confident:"),
        code(mistakes),
        text("## The cost\nThis is what the run cost."),
        code('pd.Series(record["cost"]).to_frame("cost")'),
        text(
            "## The saved model\nIf `save_model` names a folder, the weights, the labels and a model card are written "
            "there. `lrtl predict` reads\nthem, and the card shows how to use them."
        ),
        code("export.save(run.model, run.data.classes, run.path, save_model, record)"),
    ]
    if name == "00_quickstart":
        cells[4:4] = [
            text(
                "## Pick from menus\nYou can also choose data set, model and method here; then run the cells below. "
                "The choice holds until the cell of\nparameters runs again."
            ),
            code("from lrtl_utils.runs.menus import menus\n\nmenus(globals())"),
        ]
    titles = [cell.source.splitlines()[0].removeprefix("## ") for cell in cells[1:] if "## " in cell.source[:3]]
    cells[0].source += "\n\n" + " · ".join(f"[{title}](#{title.replace(' ', '-')})" for title in titles)
    for at, cell in enumerate(cells):
        cell["id"] = f"cell-{at:02}"
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel | {"language_info": {"name": "python"}})


def sources(book: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What is compared: kind and source of every cell."""
    return [(cell.cell_type, cell.source) for cell in book.cells]


def main() -> None:
    """Write every notebook that differs from the template; the quickstart with outputs, the others without."""
    for name in HEADINGS:
        path, made = FOLDER / f"{name}.ipynb", notebook(name)
        if not path.is_file() or sources(nbformat.read(path, as_version=4)) != sources(made):
            path.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
            if name == "00_quickstart":
                refresh(path)
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
