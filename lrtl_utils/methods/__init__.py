"""Ways of adapting a model, one file each. A new method is one new file and its name in `NAMES`."""

from collections import UserDict
from importlib import import_module

from lrtl_utils.methods.method import Method

# In the order in which tables and pictures show them.
NAMES = (
    "tfidf",
    "from_scratch",
    "conventional",
    "full",
    "linear_probe",
    "lp_ft",
    "bitfit",
    "lora",
    "progressive",
)


class _Methods(UserDict[str, Method]):
    """The methods by name. The file of one is imported, and torch with it, when the method is first asked for."""

    def __getitem__(self, name: str) -> Method:
        if self.data[name] is None:
            self.data[name] = import_module(f"lrtl_utils.methods.{name}").METHOD
        return self.data[name]


METHODS = _Methods(dict.fromkeys(NAMES))
