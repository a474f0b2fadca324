# lipsweep: all the entrances. `make help` lists them.
#
# Objects go to build/<flags>, one folder per flag set; V=1 shows commands.

# make predefines CC, so "CC ?= gcc" would change nothing: test its origin instead.
ifeq ($(origin CC),default)
CC := gcc
endif
Q := $(if $(V),,@)
FLAGS ?= plain
BUILD := build/$(FLAGS)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo +)

DEBIAN_RUN := gcc make libc6-dev pkg-config libdnnl-dev libopenblas-dev liblapacke-dev libyaml-dev libjansson-dev \
  libsqlite3-dev zlib1g-dev libxxhash-dev librandom123-dev gnuplot-nox dataset-fashion-mnist git
DEBIAN_TEST := $(DEBIAN_RUN) g++ libcmocka-dev clang libclang-rt-14-dev libomp-dev python3 python3-numpy python3-torch strace sqlite3

# No contraction: where a fused multiply-add is meant, the kernel says so, and bits agree across compilers.
CFLAGS_COMMON := -std=c11 -D_GNU_SOURCE -g -O2 -ffp-contract=off -fno-math-errno -pthread -fopenmp \
  -Wall -Wextra -Wshadow -Wconversion -Werror -Iinclude -Isrc
LDLIBS := -ldnnl -llapacke -lopenblas -lyaml -ljansson -lsqlite3 -lz -lxxhash -lm
CFLAGS_plain :=
CFLAGS_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan := -fsanitize=thread
# -w: warnings are the business of the compiler that makes the product.
CFLAGS_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -w
ALL_CFLAGS := $(CFLAGS_COMMON) $(CFLAGS_$(FLAGS)) $(CFLAGS)

# src/backend/cpu/isa/*.c are compiled once per instruction set, with LIPS_ISA naming it; the CPU backend picks one.
# Instrumented builds take the plain C set alone: minutes of compiler time less, and the same source.
ifeq ($(shell uname -m)$(filter-out plain,$(FLAGS)),x86_64)
ISAS := avx512 avx2 base
else
ISAS := base
ALL_CFLAGS += -DLIPS_ISA_BASE_ONLY
endif
# With sanitizers GCC needs minutes for the unrolled tiles at -O3, seconds at -O1.
ISA_O := $(if $(filter plain,$(FLAGS)),-O3,-O1)
ISA_avx512 := -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma $(ISA_O)
ISA_avx2 := -mavx2 -mfma $(ISA_O)
ISA_base := $(ISA_O)

SRC := $(filter-out src/cli/main.c,$(filter-out src/backend/cpu/isa/%,$(wildcard src/*/*.c src/*/*/*.c)))
ISA_SRC := $(wildcard src/backend/cpu/isa/*.c)
OBJ := $(SRC:%.c=$(BUILD)/%.o) $(foreach i,$(ISAS),$(ISA_SRC:src/backend/cpu/isa/%.c=$(BUILD)/isa/%.$(i).o))
LIB := $(BUILD)/liblipsweep.a
BIN := $(BUILD)/lipsweep
TEST_SRC := $(wildcard tests/*/test_*.c) tests/oracle/driver.c
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_LIB_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/lib/*.c))
BENCH_SRC := $(filter-out bench/common.c,$(wildcard bench/*.c))
BENCH_BIN := $(BENCH_SRC:bench/%.c=$(BUILD)/bench/%)
FUZZ_BIN := $(patsubst tests/fuzz/fuzz_%.c,build/fuzz/fuzzers/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all run test test-quick bench asan fuzz fuzz-bins fuzzers config deps deps-test clean help install-links
.SECONDARY:

all: $(BIN) $(LIB) ## build build/lipsweep and build/liblipsweep.a
ifeq ($(FLAGS),plain)
	$(Q)ln -sfn plain/lipsweep build/lipsweep && ln -sfn plain/liblipsweep.a build/liblipsweep.a
endif

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

config: ## what was decided
	@echo "compiler   $(CC) ($$($(CC) -dumpfullversion -dumpversion))"; echo "flags      $(FLAGS): $(ALL_CFLAGS)"
	@echo "kernels    $(ISAS)"; echo "commit     $(COMMIT)"; echo "libraries  $(LDLIBS)"

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The commit is compiled into one object, rebuilt when it changes.
$(BUILD)/src/base/version.o: $(BUILD)/commit
$(BUILD)/src/base/version.o: ALL_CFLAGS += -DLIPS_COMMIT='"$(COMMIT)"'
$(BUILD)/commit: FORCE
	@mkdir -p $(@D); echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@
.PHONY: FORCE

define ISA_RULE
$$(BUILD)/isa/%.$(1).o: src/backend/cpu/isa/%.c
	@mkdir -p $$(@D)
	@echo "CC $$< ($(1))"
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ISA_$(1)) -DLIPS_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call ISA_RULE,$(i))))

$(LIB): $(OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BIN): $(BUILD)/src/cli/main.o $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $^ -lcmocka $(LDLIBS) -o $@

$(BUILD)/bench/%: $(BUILD)/bench/%.o $(BUILD)/bench/common.o $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $^ $(LDLIBS) -o $@

run: deps ## install what is missing, build, run the default sweep, print where its report is
	$(Q)$(MAKE) --no-print-directory all
	./build/lipsweep sweep configs/fashion-mlp.yaml $(ARGS)

test: deps-test ## install what is missing, build, run every test
	$(Q)$(MAKE) --no-print-directory test-quick

test-quick: all $(TEST_BIN) ## the tests without looking for packages
	$(Q)BUILD=$(BUILD) tests/run $(TESTS)

asan: ## the tests under the address and undefined-behaviour sanitizers
	$(Q)$(MAKE) --no-print-directory FLAGS=asan test-quick

fuzz-bins:
	$(Q)$(MAKE) --no-print-directory FLAGS=fuzz CC=clang fuzzers
fuzzers: $(FUZZ_BIN)
build/fuzz/fuzzers/%: build/fuzz/tests/fuzz/fuzz_%.o $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $^ $(LDLIBS) -o $@
FUZZ_SECONDS ?= 60
fuzz: deps-test ## libFuzzer on every reader, FUZZ_SECONDS each (60)
	$(Q)$(MAKE) --no-print-directory fuzz-bins
	$(Q)tests/fuzz/run $(FUZZ_SECONDS)

bench: deps $(BENCH_BIN) ## every bench, then the side-by-side with PyTorch where present
	$(Q)bench/run $(BUILD) $(BENCHES)

deps:
	$(Q).ci/deps $(DEBIAN_RUN)
deps-test:
	$(Q).ci/deps $(DEBIAN_TEST)

clean: ## remove build/
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
