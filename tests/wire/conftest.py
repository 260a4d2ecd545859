from tests.operated_farm import operated
from tests.uploads_fixture import farm

__all__ = ["farm", "operated"]
