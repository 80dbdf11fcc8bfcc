# What a person types; the build itself is CMake's (CMakePresets.json).
#
#   make            builds the program, build/espalier, and the libraries
#   make demo       compresses the bundled network for this machine and prints what it gained and lost
#   make check      builds with every compiler and sanitizer and runs the tests; ends with the totals
#   make check-long the same with the tests that take long
#   make check-cross  builds for aarch64 and armhf with Debian's cross compilers and runs the tests in qemu (hours)
#   make coverage   which lines of src/ the tests run; every line in build-coverage/html/index.html
#   make fuzz       feeds damaged files to every reader, MINUTES=5 each (clang); exit 1 if one fails
#   make bench      times the kernels, models and networks, also beside ONNX Runtime and oneDNN (an hour); WRITE=1 writes
#                   docs/benchmarks.md
#   make install    PREFIX=/usr/local, DESTDIR= for packagers
#   make uninstall  removes what make install has put there
#   make static     builds the program as one file without shared libraries: build/espalier-static
#   make dist       packs the committed tree: build/dist/espalier-VERSION.tar.xz
#   make setup      installs what packages.txt lists and is missing (demo and check do it by themselves)
#   make clean      removes every build folder
PREFIX ?= /usr/local
BUILD := build
WERROR ?= OFF

all:
	@command -v cmake >/dev/null || { echo "cmake is missing: run 'make setup' once" >&2; exit 1; }
	@cmake --preset release -DESPL_WERROR=$(WERROR) -DCMAKE_INSTALL_PREFIX='$(PREFIX)' >/dev/null || \
		{ echo "if a package is missing: 'make setup' installs what packages.txt lists" >&2; exit 1; }
	@cmake --build $(BUILD) --target product

setup:
	@scripts/bootstrap.sh

demo: setup
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh

check: setup
	@scripts/check.sh

check-long: setup
	@scripts/check.sh --long

check-cross:
	@for arch in aarch64 armhf; do scripts/check.sh --cross $$arch || exit 1; done

coverage: setup
	@scripts/coverage.sh

fuzz: setup
	@scripts/fuzz.sh $(MINUTES)

bench: all
	@WRITE=$(WRITE) scripts/bench.sh

install: all
	@DESTDIR='$(DESTDIR)' scripts/install.sh install $(BUILD) '$(PREFIX)'

uninstall:
	@DESTDIR='$(DESTDIR)' scripts/install.sh uninstall '$(PREFIX)'

static: all
	@cmake --build $(BUILD) --target espalier-static

dist:
	@scripts/dist.sh $(BUILD)/dist

clean:
	rm -rf $(BUILD) $(BUILD)-*

.PHONY: all setup demo check check-long check-cross coverage fuzz bench install uninstall static dist clean
