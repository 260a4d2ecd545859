"""The build backend's hooks (PEP 517), called inside the sandbox."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyproject_hooks
from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller, HookMissing

from piwheels.model.builds import FailureClass
from piwheels.rules.failures import classify
from piwheels.slave.buildlog import BuildLog
from piwheels.slave.clock import Clock
from piwheels.slave.environments import Environment
from piwheels.slave.failed import BuildFailed, failed
from piwheels.slave.project import BuildSystem, check_requirements
from piwheels.slave.room import open_plain
from piwheels.slave.sandbox import Cell

MOST_ANSWER_BYTES = 1024**2
SCRIPT = Path(pyproject_hooks.__file__).parent / "_in_process" / "_in_process.py"

T = TypeVar("T")


class Hooks:
    """The hooks of one project in one cell. variables: added to the build's environment."""

    def __init__(
        self,
        cell: Cell,
        system: BuildSystem,
        variables: Mapping[str, str],
        clock: Clock,
        log: BuildLog,
    ):
        self.cell = cell
        self.system = system
        self.variables = variables
        self.clock = clock
        self.log = log

    def requires_for_wheel(self, environment: Environment) -> tuple[str, ...]:
        """What the backend requires beyond [build-system]. Raise BuildFailed."""
        return check_requirements(
            self._call(environment, lambda hooks, _: hooks.get_requires_for_build_wheel())
        )

    def build_wheel(self, environment: Environment) -> str:
        """Build; return the name the backend gives its wheel, which may be anything."""
        name = self._call(environment, lambda hooks, wheels: hooks.build_wheel(wheels))
        if not isinstance(name, str):
            raise failed(FailureClass.BAD_WHEEL, "the backend does not name its wheel")
        return name

    def _call(self, environment: Environment, ask: Callable[[BuildBackendHookCaller, str], T]) -> T:
        view = self.cell.view(environment.path)
        began = self.log.mark()
        try:
            caller = BuildBackendHookCaller(
                view.source,
                self.system.backend,
                backend_path=self.system.backend_path or None,
                runner=self._runner(environment, began),
                python_executable=f"{view.environment}/bin/python",
            )
            return ask(caller, view.wheels)
        except BackendUnavailable as error:
            self.log.say(error.traceback)
            raise self._explain(began) from error
        except HookMissing as error:
            raise failed(
                FailureClass.SOURCE_ERROR, f"its build backend has no hook {error}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise failed(
                FailureClass.SOURCE_ERROR, f"its build backend gives no sound answer: {error}"
            ) from error

    def _runner(self, environment: Environment, began: int) -> Callable[..., None]:
        """What pyproject_hooks shall call instead of subprocess.

        It names a script and a directory of the slave's; the build sees copies of both.
        """
        view = self.cell.view(environment.path)
        control = self.cell.room.control

        def run(
            command: Sequence[str],
            cwd: str | None = None,
            extra_environ: Mapping[str, str] | None = None,
        ) -> None:
            python, _, hook, exchange = command
            shutil.copy(Path(exchange, "input.json"), control)
            (control / "input.json").chmod(0o644)
            (control / "output.json").unlink(missing_ok=True)
            words = [python, f"{view.tools}/{SCRIPT.name}", hook, view.control]
            variables = {**self.variables, **(extra_environ or {})}
            status = self.cell.run(words, environment.path, variables, self.clock, self.log)
            if status != 0:
                raise self._explain(began, status)
            with open_plain(control / "output.json", MOST_ANSWER_BYTES) as file:
                answer = json.loads(file.read(MOST_ANSWER_BYTES))
            self._log_warnings(answer)
            Path(exchange, "output.json").write_text(json.dumps(answer), encoding="utf-8")

        return run

    def _log_warnings(self, answer: Any) -> None:
        """Log what the backend warned of, which pyproject_hooks would warn the slave of."""
        for warning in answer.pop("warnings", None) or ():
            where = f"{warning['filename']}:{warning['lineno']}"
            self.log.say(f"{where}: warning: {warning['message']}")

    def _explain(self, began: int, status: int | None = 1) -> BuildFailed:
        """Why a hook failed whose output begins at *began* in the log."""
        said = self.log.tail(began)
        if status == -9:
            said += "\nKilled\n"
        return BuildFailed(classify(said, network=self.cell.network))


def lay_out(tools: Path) -> None:
    """Put the script that calls a backend where the build sees it."""
    shutil.copy(SCRIPT, tools)
