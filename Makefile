.PHONY: check test pairs smoke storm games

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

# the crash suite at length, about an hour on two cores; writes its figures
storm:
	python tests/kill/storm.py --write benchmarks/RELIABILITY.md

# the contracts of streams on every game of the suites, not one for each kind of shift
games:
	RLPLASTIC_ALL_GAMES=1 pytest tests/contracts/test_streams.py tests/contracts/test_shifts.py
