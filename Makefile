# The usual jobs; each line can be typed by hand.
.PHONY: setup test test-fast lint docs

setup:
	python3 -m venv .venv
	.venv/bin/pip install -c constraints.txt -e '.[dev,docs]'
	.venv/bin/pre-commit install

test:
	.venv/bin/pytest

test-fast:
	.venv/bin/pytest tests/unit

lint:
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

docs:
	.venv/bin/sphinx-build -W -n -b html docs docs/_build/html
