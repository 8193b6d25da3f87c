"""Field-aware factorization machines: exact, fast, general. Needs numpy and numba only."""

from ffm_udf.libffm import read_libffm, write_libffm
from ffm_udf.model import FFM
from ffm_udf.rows import FieldRows

__all__ = ["FFM", "FieldRows", "read_libffm", "write_libffm"]
