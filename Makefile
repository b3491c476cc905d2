# Thin front of CMake. `make demo` and `make test` install what is missing; the others say so.
PREFIX ?= /opt/epx
CMAKE  ?= cmake
DEMO_FLAGS ?=
TEST_FLAGS ?=
BENCH_FLAGS ?=

.PHONY: all deps demo test bench install ci clean help
all: ; @scripts/deps.sh --check build && $(CMAKE) --preset user >/dev/null && $(CMAKE) --build --preset user

help:
	@echo "make demo      install what is missing, build, run the main job (DEMO_FLAGS='--help' lists its flags)"
	@echo "make test      install what is missing, build, run the tests (TEST_FLAGS go to ctest)"
	@echo "make deps      install everything that any target needs"
	@echo "make           build the libraries and the epx command"
	@echo "make install   build and install under PREFIX (now $(PREFIX))"
	@echo "make bench     install what is missing, build, time against the floor and MPI (BENCH_FLAGS='--help' lists its flags)"
	@echo "make ci        every lane of continuous integration"
	@echo "make clean     remove build/"

deps: ; scripts/deps.sh all

demo:
	scripts/deps.sh build demo
	$(CMAKE) --preset release -DEPX_TESTS=OFF >/dev/null
	$(CMAKE) --build --preset release --target epx_demo
	build/release/bin/epx-demo $(DEMO_FLAGS)

test:
	scripts/deps.sh build demo test
	$(CMAKE) --preset debug >/dev/null
	$(CMAKE) --build --preset debug
	ctest --test-dir build/debug --output-on-failure $(TEST_FLAGS)

bench:
	scripts/deps.sh build bench
	$(CMAKE) --preset user >/dev/null
	$(CMAKE) --build --preset user
	build/user/bin/epx bench $(BENCH_FLAGS)

install: all ; $(CMAKE) --install build/user --prefix "$(PREFIX)"

ci: ; bash .ci/run

clean: ; rm -rf build
