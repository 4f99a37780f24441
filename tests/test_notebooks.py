"""Every notebook runs from top to bottom, and comes to its conclusion."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
CONCLUSIONS = {
    "01_leastsq": "digits",
    "02_many_datasets": "within one standard error: 6",
    "03_differentiable": "learned: shift 1.70 and width 4.00",
    "04_convergence": "default     evaluations in three units: [22, 22, 22]",
    "05_bounds_and_outliers": "within one standard error: 68 %",
    "06_tables_and_files": "the same: True",
    "07_xarray_and_dask": "within one standard error: 68%",
    "08_peaks": "high peaks   within one standard error: 70%",
    "09_global_analysis": "amplitudes within one standard error of the truth: 70%",
    "10_uncertainty": "48  profile        2.2%     94.9%      2.9%",
}


@pytest.mark.long_but("01_leastsq")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    text = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert CONCLUSIONS[path.stem] in text
