.PHONY: check test pairs looks smoke storm games

check:
	ruff check .
	ruff format --check .
	mypy rlplastic

test:
	pytest

# every two interventions together, not one pair for each two sets of hooks
pairs:
	RLPLASTIC_ALL_PAIRS=1 pytest tests/contracts/test_interventions.py -k together

# the costly probes too, in the middle of a life with each intervention: they change no byte
looks:
	RLPLASTIC_LOOK=full pytest tests/contracts/test_interventions.py -k look_on

# every check on every game of the suites, not on one game and a few on the others
games:
	RLPLASTIC_ALL_GAMES=1 pytest tests/contracts/test_streams.py tests/contracts/test_shifts.py

smoke:
	rlplastic bench --agent dqn --reg sam --env Toy-Shifted --budget smoke

# the crash suite at length, about two hours on two cores; writes its figures
storm:
	python tests/kill/storm.py --write benchmarks/RELIABILITY.md

