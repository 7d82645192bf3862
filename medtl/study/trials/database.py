"""The database that holds trials, by its URL, which may hold a password."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

from medtl.errors import ConfigError
from medtl.study.trials.space import check_optuna

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

#: Attempts to make the tables, which another process may be making.
ATTEMPTS = 5

#: Seconds to wait while another process writes to a file of SQLite.
WAIT_S = 60.0


def connected(url: str) -> RDBStorage:
    """The database with the tables of Optuna, which are made if there are none.

    Raises:
        ConfigError: it cannot be reached, or is none; says it without the password.
    """
    check_optuna()
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    waits = {"connect_args": {"timeout": WAIT_S}} if url.startswith("sqlite") else {}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return RDBStorage(url, engine_kwargs=waits)
        except ArgumentError:
            raise ConfigError(
                "--storage: this is no URL of a database, such as sqlite:///trials.db or "
                "postgresql://USER@HOST/NAME"
            ) from None
        except ImportError as problem:
            raise ConfigError(
                f"--storage {hidden(url)}: its driver is not installed "
                f"({first_line(problem, url)}); install it by pip"
            ) from None
        except (StorageInternalError, SQLAlchemyError, RuntimeError) as problem:
            # Two processes may make the tables at once; then the second attempt finds them.
            if attempt == ATTEMPTS or not _is_half_made(problem):
                raise ConfigError(
                    f"--storage {hidden(url)}: cannot be used ({first_line(problem, url)})"
                ) from None
        sleep(attempt * 0.5)
    raise AssertionError


def _is_half_made(problem: BaseException) -> bool:
    texts = f"{problem} {problem.__cause__}".lower()
    return any(word in texts for word in ("already exists", "unique", "no such table", "locked"))


def hidden(url: str) -> str:
    """The URL without its password, nor options, of which one may be a password."""
    from sqlalchemy.engine import make_url

    return make_url(url).set(query={}).render_as_string(hide_password=True)


def first_line(problem: BaseException, url: str) -> str:
    """What is wrong, in a line that does not hold the password of the URL."""
    from sqlalchemy.engine import make_url

    while problem.__cause__ is not None:
        problem = problem.__cause__
    text = " ".join(str(problem).split("\n", 1)[0].split())
    password = make_url(url).password
    for secret in (url, str(password or "")):
        text = text.replace(secret, "***") if secret else text
    return text or type(problem).__name__
