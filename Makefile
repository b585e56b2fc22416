.PHONY: check test smoke

check:
	ruff check .
	ruff format --check .
	mypy rlplastic

test:
	pytest

smoke:
	rlplastic bench --agent dqn --reg sam --env Toy-Shifted --budget smoke
