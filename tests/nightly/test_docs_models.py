"""Every command of docs/models.md, in the order of the page."""

import os
import re

import pytest
from checkpoints import write_own_text_model
from complete import call

from lrtl_utils.files import ROOT

COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)```", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.slow
def test_the_page_s_commands_do_what_it_says(tmp_path):
    write_own_text_model(tmp_path / "my/encoder", "electra")
    write_own_text_model(tmp_path / "mirror/models/acme/encoder", "bert")
    (tmp_path / "my/texts.csv").write_text("text\nShares fell today.\nThe coach left.\n")
    environment = os.environ | {"LRTL_MIRROR": str(tmp_path / "mirror")}
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        words = re.sub(r"\bmy/", f"{tmp_path}/my/", command).split()
        assert words[0] == "lrtl"
        results = ["--results", f"{tmp_path}/results"] if words[1] == "run" else []
        done = call(*words[1:], *results, env=environment)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert len(list((tmp_path / "results/runs/news_sample").glob("*.json"))) == 5
    rows = (tmp_path / "my/texts.predictions.csv").read_text().splitlines()
    assert rows[0] == "text,label,p_World,p_Sports,p_Business,p_Sci/Tech"
    assert [row.split(",")[0] for row in rows[1:]] == ["Shares fell today.", "The coach left."]
