"""Runs the notebooks of examples/notebooks and keeps their output in them (`make notebooks`).

    python tools/notebooks.py [NAME ...]

Each runs in a kernel of its own and in a folder of its own, which is removed. What differs between machines without
being output (times of cells, the version of Python) is left out, so that a notebook changes where its output does.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def executed(notebook: Path, folder: Path) -> Any:
    """The notebook with the output of a new run of all its cells.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    content = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(
        content, resources={"metadata": {"path": str(folder)}}, kernel_name="python3", record_timing=False
    )
    client.execute()
    for cell in content.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":  # paths below the folder become relative
                output.text = output.text.replace(f"{folder}/", "")
    content.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    return content


def main() -> int:
    names = set(sys.argv[1:])
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        if not names or notebook.stem in names:
            with tempfile.TemporaryDirectory() as folder:
                content = executed(notebook, Path(folder))
            nbformat.write(content, notebook)
            print(f"{notebook.name}: {notebook.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
