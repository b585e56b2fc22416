.PHONY: check test pairs smoke

check:
	ruff check .
	ruff format --check .
	mypy rlplastic

test:
	pytest

# every two interventions together, not one pair for each two sets of hooks
pairs:
	RLPLASTIC_ALL_PAIRS=1 pytest tests/contracts/test_interventions.py -k together

smoke:
	rlplastic bench --agent dqn --reg sam --env Toy-Shifted --budget smoke
