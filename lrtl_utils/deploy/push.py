"""A saved model on the hub, with its model card."""

import json
from pathlib import Path

import httpx
import yaml
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, get_token

from lrtl_utils.data import hub
from lrtl_utils.errors import InputError, reason
from lrtl_utils.files import absolute_path
from lrtl_utils.models.own import KEPT_FILE, is_partial


def push(folder: str | Path, repository: str, licence: str, *, private: bool = False) -> str:
    """Upload the folder of a model that `save` kept to `org/name`, in one commit; returns its address.

    The repository is created if it does not exist. Its card is that of the folder, with the licence under the hub's
    name for it (`apache-2.0`). With `private`, the repository must be new, or private already. Without it, a new one is
    public, unless its organization has another default. `InputError` if the folder is no saved model, if there is no
    token, or if the hub cannot be reached or refuses the upload.
    """
    folder = absolute_path(folder)
    if not all((folder / name).is_file() for name in (KEPT_FILE, "README.md", "record.json")):
        raise InputError(f"{folder} is not a model that `lrtl run --save-model` saved, so it is not uploaded.")
    if not get_token():
        raise InputError("There is no token for the hub: `hf auth login` stores one, or set HF_TOKEN.")
    if not hub.reachable():
        raise InputError(f"The hub at {hub.endpoint()} cannot be reached (or HF_HUB_OFFLINE is set).")
    try:
        model_card = ModelCard.load(folder / "README.md")
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{folder / 'README.md'} has a header that is not valid YAML: {reason(error)}.") from None
    model_card.data.license = licence
    files = (path for each in folder.iterdir() if not is_partial(each) for path in [each, *each.rglob("*")])
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(files) if path.is_file()}
    try:
        message = f"Model of run {json.loads((folder / 'record.json').read_bytes())['run_id']}"
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'record.json'} is not the record of a run: {reason(error)}.") from None
    api = HfApi(endpoint=hub.endpoint())
    try:
        # Its id has the user's name. Without `private`, an organization's default counts, which False would overrule.
        repository = api.create_repo(repository, private=private or None, exist_ok=True).repo_id
        if private and not api.repo_info(repository).private:
            raise ValueError("the repository exists and is public; name another, or leave --private out")
        text = str(model_card).replace('"local-dir:FOLDER"', f'"hf-hub:{repository}"')
        content = paths | {"README.md": text.replace('"FOLDER"', f'"{repository}"').encode()}
        files = [CommitOperationAdd(name, given) for name, given in content.items()]
        api.create_commit(repository, files, commit_message=message)
    except (httpx.HTTPError, OSError, ValueError, RuntimeError, ImportError) as error:  # the client's own are of these
        cause = (error.__cause__ if isinstance(error, RuntimeError) else None) or error  # of an upload that broke off
        said = f"{folder} could not be uploaded to {repository} at {hub.endpoint()}: {reason(cause)}"
        raise InputError(said) from error
    return f"{hub.endpoint()}/{repository}"
