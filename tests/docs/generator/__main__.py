"""Write every generated block of README.rst and docs/ anew; say which pages changed."""

from tests.docs.generator.blocks import renew
from tests.docs.generator.renders import RENDERS
from tests.docs.pages import PAGES, ROOT

for page in PAGES:
    before = page.read_text(encoding="utf-8")
    after = renew(before, RENDERS)
    if after != before:
        page.write_text(after, encoding="utf-8")
        print(f"wrote {page.relative_to(ROOT)}")
