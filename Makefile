# What is needed: Python 3.11 or newer, make, git. Everything else is made on demand, below .venv and .tools.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test compiled peers cluster newest lowest prerelease bench endurance fuzz mutants lint format proto lock deploy clean

# Of pip's settings in the environment only those count that say where to download from, and how. A PIP_CONSTRAINT or
# PIP_TARGET must not change what is installed, or where.
unexport $(filter-out %_URL %_INDEX %_LINKS %_HOST %_CERT %_PROXY %_PROVIDER %_TIMEOUT %_RETRIES %_DIR %_FILE,$(filter PIP_%,$(.VARIABLES)))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes, and to compile the sources is more than half of what a start costs.
unexport PYTHONDONTWRITEBYTECODE
# The interpreter itself: an activated .venv is about to be removed.
PYTHON = $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell $(name) -c 'import sys; assert sys.version_info >= (3, 11); print(sys._base_executable)' 2>/dev/null)))
BIN := .venv/bin
# Installs exactly what a lock file says. Nothing is resolved: for `coverage[toml]` old pips look past the lock, at whatever
# was released since. Nothing is built: what a build requires is in no lock file.
INSTALL := $(BIN)/pip install --quiet --no-deps --require-hashes --only-binary=:all: --requirement
RESOLVE = $(BIN)/uv pip install --quiet --python .tools/$@ $(RESOLVE_$@)
RESOLVE_lowest := --resolution lowest-direct
CHECK_lowest = .tools/lowest/bin/python -m tests.install.bounds $(EXTRAS)
EXTRAS = cel demo shared pkcs11 aws azure $(EXTRAS_$@)
EXTRAS_newest := google  # its own requirements lift gRPC and OpenTelemetry above the lowest that we promise
EXTRAS_prerelease := google
EXTRA_TESTS = $(wildcard $(patsubst %,tests/integration/test_%.py,shared_state hsm aws_kms azure_key_vault $(EXTRAS_$@:=_kms)))
RESOLVE_prerelease := --override tests/install/prerelease.txt
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --generate-hashes --no-annotate --custom-compile-command "make lock"

help:  ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

run: .venv/ready  ## start the demo: identity provider, sidecar, Envoy, upstream (ARGS=--once to try it and leave)
	$(BIN)/authz demo $(ARGS)

test: .venv/ready .tools/xds-protos .tools/helm .tools/rotel .tools/pips .tools/frameworks/python  ## prove everything (ARGS="-k token" for a part)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS)

# A copy, for Python imports an extension module that is beside its source, whichever is newer.
compiled: .venv/ready .tools/xds-protos  ## compile what a check runs, in .tools/compiled, and prove it there by the same tests; needs a C compiler (ARGS="-k token" for a part)
	rm -rf .tools/compiled && mkdir -p .tools/compiled
	$(BIN)/python deploy/compile.py .tools/compiled
	cp -r deploy findings protos tests *.* Makefile LICENSE .github .ci .tools/compiled && ln -s ../../.venv ../../.tools .tools/compiled
	cd .tools/compiled && PYTHONPATH=$(CURDIR)/.tools/compiled AUTHZ_COMPILED=1 .venv/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=10 --deselect tests/unit/test_house.py tests/unit tests/attacks tests/fuzz tests/e2e $(ARGS)

peers: .venv/ready $(addprefix .tools/peers/,keycloak grpc-java opa openfga readers dpop) $(addprefix .tools/frameworks/,python node go more caddy java)  ## prove what we say of a real Keycloak, OPA, OpenFGA, grpc-java, readers of our keys, clients of DPoP and web frameworks; needs Maven, Java 17, Go, Node
	PEERS=1 REQUIRE_ALL=1 $(BIN)/python -m pytest tests/peers $(ARGS)

cluster: .venv/ready .tools/helm .tools/cluster .tools/definitions  ## prove deploy/ against a real Kubernetes API server, made from source; needs Go
	CLUSTER=1 REQUIRE_ALL=1 $(BIN)/python -m pytest tests/cluster $(ARGS)

newest:  ## test without the lock: on the newest releases of everything
lowest:  ## the same on the lowest releases that pyproject.toml promises
prerelease:  ## the same on the newest gRPC: pre-releases, and what pyproject.toml does not allow yet

newest lowest prerelease: .venv/ready .tools/xds-protos .tools/moto
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .tools/$@
	$(RESOLVE) --group build
	$(RESOLVE) --upgrade --no-build-isolation-package authz-sidecar --group build --group test $(addprefix --extra ,$(EXTRAS)) --requirement pyproject.toml .
	$(CHECK_$@)
	.tools/$@/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --deselect tests/unit/test_house.py::test_lint tests/unit tests/e2e $(EXTRA_TESTS) $(ARGS)

bench: .venv/ready .tools/rotel  ## measure speed, memory and growth, in ten minutes (ARGS=--short in two)
	$(BIN)/python -m tests.bench $(ARGS)

endurance: .venv/ready  ## reload, restart, soak, attack and overload real processes, in ten minutes (ARGS=--long in two hours)
	$(BIN)/python -m tests.endurance $(ARGS)

fuzz: .venv/ready  ## fuzz untrusted input, without end (ARGS="token" for one target)
	$(BIN)/python -m tests.fuzz $(ARGS)

mutants: .venv/ready  ## change the core piece by piece, in a copy, and see whether a test fails for each
	copy=$$(mktemp -d) && cp -r authz tests pyproject.toml README.md "$$copy" && cd "$$copy" && $(CURDIR)/$(BIN)/mutmut run $(ARGS) && $(CURDIR)/$(BIN)/mutmut results

lint: .venv/ready  ## ruff, mypy and the import layering
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports

format: .venv/ready  ## let ruff put the code in order
	$(BIN)/ruff check --fix && $(BIN)/ruff format

proto: .venv/ready  ## generate authz/envoy/ext_authz_pb2 from protos/
	$(BIN)/python -m grpc_tools.protoc -I authz/envoy=protos --python_out=. --pyi_out=. authz/envoy/ext_authz.proto

lock: .venv/locked  ## lock the newest releases that pyproject.toml allows
	$(LOCK) --all-extras --group dev pyproject.toml --output-file requirements.lock
	$(LOCK) --extra cel --extra shared --constraint requirements.lock pyproject.toml --output-file deploy/requirements.lock
	echo pip | $(LOCK) - --output-file tests/install/newest.lock

deploy: .venv/ready .tools/helm  ## regenerate derived files: schemas, references, tables, Envoy's bootstrap
	$(BIN)/python deploy/generate.py

clean:  ## remove everything that was made
	rm -rf .venv .tools .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find authz tests -name __pycache__ -exec rm -rf {} +

# The environment is rebuilt when the lock changes, and authz is installed again when pyproject.toml changes.
.venv/locked: requirements.lock
	@test -n "$(PYTHON)" || { echo "authz needs Python 3.11 or newer; python3 is $$(python3 --version 2>/dev/null || echo missing)" >&2; exit 1; }
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(INSTALL) requirements.lock
	touch $@

.venv/ready: pyproject.toml .venv/locked
	$(BIN)/pip install --quiet --no-index --no-deps --no-build-isolation --editable . && $(BIN)/pip check >&2 || \
	  { echo "requirements.lock does not hold all that pyproject.toml asks for: run make lock" >&2; exit 1; }
	touch $@

# Envoy's own definition of its protocol, to compare ours with. It must not share an environment with OpenTelemetry.
.tools/xds-protos: tests/unit/envoy/official.lock .venv/locked
	rm -rf $@ && $(INSTALL) $< --target $@
	touch $@

# The oldest pip that comes with a supported Python, and the newest, to prove the installation with.
.tools/pips: tests/install/oldest.lock tests/install/newest.lock .venv/locked
	rm -rf $@ && for lock in oldest newest; do $(INSTALL) tests/install/$$lock.lock --target $@/$$lock || exit; done
	touch $@

# A collector, to prove traces with.
.tools/rotel: tests/integration/collector.lock .venv/locked
	rm -rf $@ && $(INSTALL) $< --target $@
	touch $@

# Clients of DPoP in Python, to prove the sidecar with.
.tools/dpop-clients: tests/integration/dpop_clients.lock .venv/locked
	rm -rf $@ && $(INSTALL) $< --target $@
	touch $@

# A writer of status lists in Python, to read them with the sidecar.
.tools/status-lists: tests/integration/status_lists.lock .venv/locked
	rm -rf $@ && $(INSTALL) $< --target $@
	touch $@

# A server with the API of AWS KMS, to prove signing keys with.
.tools/moto: tests/integration/moto.lock .venv/locked
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $@
	$(BIN)/uv pip install --quiet --python $@ --no-deps --require-hashes --only-binary=:all: --requirement $<
	touch $@

# Keycloak as Maven has it: 170 MB, and a minute to start, so it is for `make peers` alone. It is built here, for each start
# in development mode does so too, and a second one would find half a build.
.tools/peers/keycloak: tests/peers/keycloak.sha256 tests/peers/keycloak.conf .venv/locked
	rm -rf $@ $(@D)/keycloak-* && mkdir -p $(@D)
	version=$$(sed -n 's/.*-dist-\(.*\)\.zip$$/\1/p' $<) && cp $< $(@D) && cd $(@D) && \
	  mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory=. \
	    -Dartifact=org.keycloak:keycloak-quarkus-dist:$$version:zip && \
	  sha256sum --check --quiet $(<F) && $(CURDIR)/$(BIN)/python -m zipfile --extract *.zip . && \
	  mv keycloak-$$version $(@F) && rm *.zip
	cp tests/peers/keycloak.conf $@/conf && bash $@/bin/kc.sh build && touch $@

# A gRPC client that asks for itself, without Envoy.
.tools/peers/grpc-java: tests/peers/grpc_java/pom.xml $(wildcard tests/peers/grpc_java/src/*/*)
	rm -rf $@ $@.new && mkdir -p $(@D) && cp -r tests/peers/grpc_java $@.new
	cd $@.new && mvn --batch-mode --quiet compile org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
	mv $@.new $@ && touch $@

# Policy decision points, each as its own repository builds it: some minutes of two cores.
.tools/peers/opa: $(wildcard tests/peers/opa/*)
	cd tests/peers/opa && $(GO_BUILD) -p 2 -mod=readonly -ldflags -s -o $(CURDIR)/$@/ github.com/open-policy-agent/opa
	touch $@

.tools/peers/openfga: $(wildcard tests/peers/openfga/*)
	cd tests/peers/openfga && $(GO_BUILD) -p 2 -mod=readonly -ldflags -s -o $(CURDIR)/$@/ github.com/openfga/openfga/cmd/openfga
	touch $@

# Readers of our key set: a Spring resource server, and Go's jwx.
.tools/peers/readers: $(wildcard tests/peers/readers/*/*) $(wildcard tests/peers/readers/java/src/*/*)
	rm -rf $@ $@.new && mkdir -p $(@D) && cp -r tests/peers/readers $@.new
	cd $@.new/java && mvn --batch-mode --quiet compile org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
	cd $@.new/go && $(GO_BUILD) -mod=readonly -o readers .
	mv $@.new $@ && touch $@

# Clients of DPoP: Nimbus and Spring Security in Java, indigo in Go.
.tools/peers/dpop: $(wildcard tests/peers/dpop/*/*) $(wildcard tests/peers/dpop/java/src/clients/*)
	rm -rf $@ $@.new && mkdir -p $(@D) && cp -r tests/peers/dpop $@.new
	cd $@.new/java && mvn --batch-mode --quiet compile org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
	cd $@.new/go && $(GO_BUILD) -mod=readonly -o dpop .
	mv $@.new $@ && touch $@

# Another authorization server, for `make bench` to measure beside the sidecar: some minutes of one core.
.tools/peers/heimdall: $(wildcard tests/bench/peers/heimdall/*)
	mkdir -p $(@D)
	cd tests/bench/peers/heimdall && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags -s -o $(CURDIR)/$@ .

# Web frameworks, each a server with the same routes. Those of Python come with `make test`; for Node's and Go's .ci/run
# asks; more of Go, and Caddy and Java, are for `make peers` alone.
.tools/frameworks/python: tests/frameworks/python/frameworks.lock .venv/locked
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $@
	$(BIN)/uv pip install --quiet --python $@ --no-deps --require-hashes --only-binary=:all: --requirement $<
	touch $@

.tools/frameworks/node: $(wildcard tests/frameworks/node/*)
	rm -rf $@ $@.new && mkdir -p $(@D) && cp -r tests/frameworks/node $@.new
	cd $@.new && npm ci --no-audit --no-fund --ignore-scripts
	mv $@.new $@ && touch $@

.tools/frameworks/go .tools/frameworks/more: $(wildcard tests/frameworks/go/*)
	cd tests/frameworks/go && go build -mod=readonly -trimpath -tags $(@F) -o $(CURDIR)/$@/frameworks .
	touch $@

.tools/frameworks/caddy: $(wildcard tests/frameworks/caddy/*)
	cd tests/frameworks/caddy && go build -mod=readonly -trimpath -o $(CURDIR)/$@/caddy .
	touch $@

.tools/frameworks/java: tests/frameworks/java/pom.xml $(wildcard tests/frameworks/java/src/*/*)
	rm -rf $@ $@.new && mkdir -p $(@D) && cp -r tests/frameworks/java $@.new
	cd $@.new && mvn --batch-mode --quiet compile org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
	mv $@.new $@ && touch $@

# Kubernetes' API server and etcd, of the releases in go.mod. Without debugging information the compiler has a third less
# to do, and with more memory for its collector less again.
STAMP := k8s.io/component-base/version
GO_BUILD := CGO_ENABLED=0 GOGC=400 go build -trimpath -gcflags=all=-dwarf=false

.tools/cluster: $(wildcard tests/cluster/kubernetes/*) $(wildcard tests/cluster/kubernetes/*/*)
	rm -rf $@ $@.new && mkdir -p $@.new
	cd tests/cluster/kubernetes && said=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes | \
	  sed 's|^v\([0-9]*\)\.\([0-9]*\)\..*|-X $(STAMP).gitVersion=& -X $(STAMP).gitMajor=\1 -X $(STAMP).gitMinor=\2|') && \
	  $(GO_BUILD) -ldflags "-s $$said" -o $(CURDIR)/$@.new/ ./...
	mv $@.new $@ && touch $@

# The kinds of Istio, the Gateway API, Envoy Gateway and the Prometheus operator.
.tools/definitions: tests/cluster/fetch_definitions.py .venv/locked
	rm -rf $@ $@.new && mkdir -p $@.new
	$(BIN)/python $< $@.new
	mv $@.new $@ && touch $@

# Kubernetes' types and its Pod Security evaluator, without a server: some 20 s of one core.
.tools/admission: $(wildcard tests/chart/admission/*)
	rm -rf $@ && mkdir -p $@
	cd tests/chart/admission && $(GO_BUILD) -ldflags -s -o $(CURDIR)/$@/ .
	mv $@/authz-admission $@/admission && touch $@

# Helm, kubectl and other tools that prove deploy/.
.tools/helm: tests/chart/tools.lock tests/chart/unpack.py .venv/locked
	rm -rf $@ $@.new && $(INSTALL) $< --target $@.new
	$(BIN)/python tests/chart/unpack.py $@.new
	mv $@.new $@ && touch $@
