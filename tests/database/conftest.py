from tests.uploads_fixture import farm

__all__ = ["farm"]
