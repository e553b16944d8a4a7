"""What can be read in several forms: in a terminal, in a notebook, as a file."""

import os
from typing import Any, ClassVar

from ..errors import unknown


class Written:
    """A subclass has a method for each of its forms, and gets `str`, `save` and the way a notebook shows it."""

    forms: ClassVar[dict[str, str]] = {".txt": "text", ".md": "markdown", ".html": "html"}

    def text(self, *options: Any) -> str:
        raise NotImplementedError

    def markdown(self, *options: Any) -> str:
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str], *options: Any) -> None:
        """Write it as the path's ending says. options: of that form, such as the number of digits. ValueError for another ending."""
        ending = os.path.splitext(os.fspath(path))[1].lower()
        if ending not in self.forms:
            raise unknown("ending", ending, self.forms)
        made = getattr(self, self.forms[ending])
        with open(path, "w", encoding="utf-8") as f:
            f.write(made() if ending == ".json" else made(*options))

    def __str__(self) -> str:
        return self.text()

    def _repr_markdown_(self) -> str:
        return self.markdown()
