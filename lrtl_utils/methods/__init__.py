"""Ways of adapting a model, one file each. A new method is one new file and its name in `VERSIONS`."""

from collections import UserDict
from importlib import import_module

from lrtl_utils.methods.method import Method

# In the order in which tables and pictures show them. A version is part of a run's identity: raise it whenever a change
# of the method's rule or code may change results. A summary leaves out runs of an earlier version than others in it.
VERSIONS = {
    "tfidf": 1,
    "from_scratch": 1,
    "conventional": 1,
    "full": 1,
    "linear_probe": 2,
    "lp_ft": 2,
    "bitfit": 1,
    "lora": 1,
    "progressive": 4,
}


class _Methods(UserDict[str, Method]):
    """The methods by name. The file of one is imported, and torch with it, when the method is first asked for."""

    def __getitem__(self, name: str) -> Method:
        if self.data[name] is None:
            self.data[name] = import_module(f"lrtl_utils.methods.{name}").METHOD
        return self.data[name]


METHODS = _Methods(dict.fromkeys(VERSIONS))
