"""HU become density by the user's table, and HU that leave it are told."""

import numpy as np
import pytest

from medical_gans.errors import InputError
from medical_gans.studies.radiotherapy.density import COLUMNS, DensityTable


def test_the_shipped_table_gives_the_densities_of_the_literature():
    table = DensityTable.read()
    # ICRU 44 tissues: adipose, muscle, cortical bone (electron density relative to water 0.951, 1.040, 1.781)
    found = table.electron_density(np.array([-1000, -90, 45, 1500]))
    np.testing.assert_allclose(found, [0.001, 0.951, 1.040, 1.781], atol=0.015)
    # in tissue without bone the two densities differ by 3 % at most, in bone stopping power is lower
    hounsfield = np.array([-500, -8, 50, 1350])
    ratio = table.stopping_power(hounsfield) / table.electron_density(hounsfield)
    assert (abs(ratio[:3] - 1) < 0.03).all() and 0.93 < ratio[3] < 0.97


def test_between_points_values_are_interpolated_and_beyond_them_kept(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(f"# our scanner, 120 kV\n{','.join(COLUMNS)}\n-1000,0,0.1\n\n0,1,1.1\n1000,1.5,1.4\n")
    table = DensityTable.read(file)
    hounsfield = np.array([[-2000, -500], [250, 4000]], dtype=np.int16)
    np.testing.assert_allclose(table.electron_density(hounsfield), [[0, 0.5], [1.125, 1.5]])
    np.testing.assert_allclose(table.stopping_power(hounsfield), [[0.1, 0.6], [1.175, 1.4]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hounsfield,density\n0,1\n100,1.1",
        f"{','.join(COLUMNS)}\n0,1,1",
        f"{','.join(COLUMNS)}\n0,1,1\n-100,0.9,0.9",
        f"{','.join(COLUMNS)}\n0,1,1\n0,2,2",
        f"{','.join(COLUMNS)}\n0,1,1\n100,-1,1",
        f"{','.join(COLUMNS)}\n0,1,1\n100,nan,1",
        f"{','.join(COLUMNS)}\n0,1\n100,1.1,1",
        f"{','.join(COLUMNS)}\n0,one,1\n100,1.1,1",
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=r"density table .*table\.csv"):
        DensityTable.read(file)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        DensityTable.read(tmp_path / "none.csv")


def test_hounsfield_that_leave_the_table_are_told():
    table = DensityTable(np.array([-1000.0, 2000.0]), np.array([0.0, 2.0]), np.array([0.0, 2.0]))
    ct = np.zeros((10, 10, 10))
    body = np.ones(ct.shape, dtype=bool)
    assert table.warnings(ct, body) == []
    ct[:2, 0, :5] = 3000
    assert "1.00% of the body lies above 2000 HU" in table.warnings(ct, body)[0]
    ct[5] = -1500
    assert [sentence.split(" HU")[0][-11:] for sentence in table.warnings(ct, body)] == ["below -1000", " above 2000"]
    assert table.warnings(ct, np.zeros_like(body)) == []
