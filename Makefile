# Few targets; the work is in tools/.  All output is under build/.
#
#   make            build/hato, and build/bin/ with the names of its commands
#   make run        a first try: starts Hato in a private directory, sends a letter
#   make test       everything, in a quarter of an hour or more; needs root for all
#   make bench      Hato and its peers on the same work
#   make lint       house rules, formatter, clang-tidy
#   make fuzz       every fuzzer for FUZZ_SECONDS (10)
#   make crash      every crash test, not only the sample of make test
#   make install    an optimized build, to PREFIX (/usr/local) under DESTDIR
PREFIX ?= /usr/local

all:
	@tools/install-deps build
	@tools/build

run: all
	@tools/demo

test:
	@tools/install-deps test
	@tools/run-tests

# What is installed and measured is optimized over all files together, which
# takes longer to build than build/dev.
release:
	@tools/install-deps build
	@tools/build build/opt build/release -Db_lto=true -Dtests=false

bench: release
	@tools/install-deps bench
	@tools/bench

lint:
	@tools/install-deps test
	@tools/lint

fuzz:
	@tools/install-deps test
	@tools/run-fuzz

crash:
	@tools/install-deps test
	@tools/run-tests crash

install: release
	meson setup --reconfigure --prefix=$(PREFIX) build/opt >/dev/null
	DESTDIR=$(DESTDIR) meson install -C build/opt

clean:
	rm -rf build

.PHONY: all release run test bench lint fuzz crash install clean
