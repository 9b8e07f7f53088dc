# The commands a developer needs. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types layers unit docs bench bench-levers bench-ledger bench-peers bench-cometbft mutants soak cometbft abci-cli proto lock format clean

demo: .venv/ready
	rm -rf runs/demo
	$(BIN)/fedmeta compare --data digits --out runs/demo

test: lint types layers docs unit

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/pyright

layers: .venv/ready
	$(BIN)/lint-imports

# Some tests wait for processes of their own: three at a time keep two cores busy.
unit: .venv/ready
	$(BIN)/pytest -n 3 --dist loadfile

docs: .venv/ready
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs

bench: .venv/ready
	$(BIN)/python benchmarks/engine.py

bench-levers: .venv/ready
	$(BIN)/python benchmarks/levers.py

bench-ledger: .venv/ready
	$(BIN)/python benchmarks/ledger.py

bench-cometbft: .venv/ready build/bin/cometbft build/bin/abci-cli
	FEDMETA_COMETBFT=$(abspath build/bin/cometbft) $(BIN)/python benchmarks/cometbft.py

bench-peers: .venv/ready build/peers-venv/ready build/fedjax-venv/ready
	$(BIN)/python benchmarks/peers/run.py

mutants: .venv/ready
	$(BIN)/python -m tests.govern.mutants
	$(BIN)/python -m tests.node.mutants

soak: .venv/ready
	$(BIN)/python -m tests.govern.soak
	$(BIN)/python -m tests.govern.adversary --games 10000
	FEDMETA_SOAK=20 $(BIN)/pytest -n 2 -q $(addprefix tests/govern/,machine/test_machine.py state/test_state.py test_fuzz.py wire/test_codec.py server/test_hostile.py cometbft/test_protocol.py cometbft/test_chains.py)
	FEDMETA_SOAK=1 $(BIN)/pytest -n 2 -q $(addprefix tests/,engine/test_rewrite.py engine/test_plans.py engine/test_dealt.py \
		algorithms/test_algorithms.py algorithms/test_finite_differences.py algorithms/test_shared_rates.py test_round_table.py test_transforms.py test_resume.py \
		test_optimisers.py test_results.py test_model.py test_seen_from_outside.py cli/test_runs.py cli/test_compare.py cli/test_predict.py \
		cli/test_processes.py cli/test_tour.py study/test_baselines.py study/test_report.py study/test_compare.py study/test_former.py consortium/test_comparison.py consortium/test_side_by_side.py test_no_leak.py test_accounting.py govern/rules/test_registrations.py study/grid/test_run.py study/grid/test_report.py study/grid/test_tune.py study/test_dose.py study/test_recipe.py study/test_when.py study/test_regression.py study/test_untrained.py data/test_real_tables.py data/test_storage.py cli/test_evaluate.py \
		govern/attacks/test_adversary.py govern/attacks/test_every_order.py govern/attacks/test_votes.py node/test_aggregation.py node/test_training.py \
		node/simulated/test_federation.py)
	FEDMETA_SOAK=1 $(BIN)/pytest -q $(addprefix tests/node/process/,test_federation.py test_networks.py test_bad_input.py test_commands.py) \
		$(addprefix tests/cli/,test_node_page.py test_four_hospitals_played.py test_validators_played.py) \
		tests/consortium/processes/test_processes.py \
		$(addprefix tests/govern/cometbft/,test_child.py test_ledgers.py test_light_client.py test_network.py test_partitions.py test_state_sync.py)

build/peers-venv/ready: benchmarks/peers/requirements.txt
build/fedjax-venv/ready: benchmarks/peers/requirements-fedjax.txt
build/peers-venv/ready build/fedjax-venv/ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# The engine for organisations that do not trust one another. Its version stands in tools/cometbft/go.mod alone.
cometbft: build/bin/cometbft

# CometBFT's own example of an application, beside which the ledger is measured.
abci-cli: build/bin/abci-cli

build/bin/cometbft: PACKAGE := cmd/cometbft
build/bin/abci-cli: PACKAGE := abci/cmd/abci-cli
build/bin/cometbft build/bin/abci-cli: tools/cometbft/go.mod tools/cometbft/go.sum
	@command -v go >/dev/null || { echo "make cometbft needs Go 1.22 or newer on the PATH; without it," \
		"\`fedmeta ledger\` has its embedded engine, and a built cometbft can be named by FEDMETA_COMETBFT" >&2; exit 1; }
	mkdir -p $(@D)
	cd tools/cometbft && CGO_ENABLED=0 GOWORK=off go build -mod=readonly -trimpath \
		-o $(abspath $@) github.com/cometbft/cometbft/$(PACKAGE)
	touch $@

proto: .venv/ready
	$(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src --pyi_out=src src/fedmeta/govern/engines/cometbft/schema.proto

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The lock holds names, versions and hashes only, so that it works with whichever index a machine uses.
lock: .venv/ready
	uv pip compile pyproject.toml --extra dev --universal --fork-strategy fewest --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv build .pytest_cache .ruff_cache
