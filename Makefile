# lipsweep: all the entrances. `make help` lists them.
#
# Objects go to build/<flags>, one folder per flag set; V=1 shows commands.

# make predefines CC, so "CC ?= gcc" would change nothing: test its origin instead.
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
Q := $(if $(V),,@)
FLAGS ?= plain
BUILD := build/$(FLAGS)$(if $(filter asan1,$(FLAGS)$(CUDA)),-cuda)
COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)$(shell git diff --quiet HEAD 2>/dev/null || echo +)

DEBIAN_RUN := gcc make libc6-dev pkg-config libdnnl-dev libopenblas-dev liblapacke-dev libyaml-dev libjansson-dev \
  libsqlite3-dev zlib1g-dev libxxhash-dev librandom123-dev gnuplot-nox dataset-fashion-mnist git
DEBIAN_TEST := $(DEBIAN_RUN) g++ libcmocka-dev clang libclang-rt-14-dev libomp-dev python3 python3-numpy python3-torch python3-torchvision strace sqlite3

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

# CUDA=1 builds the cuda backend, CUDA=0 leaves it out; the default is what the machine has. The plain build links NVIDIA's
# libraries; beside it (SIM) the same objects are linked with kernels compiled by g++ and with tests/cusim in the place of
# the device and of those libraries. Instrumented builds have that emulated device alone.
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc)))
CUDA_LACKS := $(strip $(foreach f,bin/nvcc include/cublas_v2.h include/cudnn.h,$(if $(wildcard $(CUDA_HOME)/$(f)),,$(f))))
CUDA_FOUND := $(if $(CUDA_LACKS),,1)
ifeq ($(origin CUDA)$(MAKELEVEL),undefined0)
ifneq ($(if $(CUDA_FOUND),,$(wildcard $(CUDA_HOME)/bin/nvcc)),)
$(shell echo 'note: $(CUDA_HOME) has nvcc but not $(CUDA_LACKS): building without the cuda backend' >&2)
endif
endif
CUDA ?= $(if $(CUDA_FOUND),1,0)
CUDA_ARCHS ?= 80 90a 100
ifeq ($(filter plain asan,$(FLAGS)),)
override CUDA := 0
endif
ifeq ($(filter 0 1,$(CUDA)),)
$(error CUDA=$(CUDA): 0 or 1)
endif
ifeq ($(CUDA),1)
ifeq ($(CUDA_FOUND),)
$(error CUDA=1: no $(CUDA_LACKS) under CUDA_HOME=$(CUDA_HOME); CUDA=0 builds without)
endif
SIM := $(if $(filter plain,$(FLAGS)),build/cusim,$(BUILD))
CUDA_INCLUDE := -I. -isystem $(CUDA_HOME)/include
ALL_CFLAGS += $(CUDA_INCLUDE)
LDLIBS += -lstdc++
# cuBLAS and cuDNN: loaded at their first call (src/backend/cuda/nvidia/late.c) where that is offered.
LATE := $(if $(filter x86_64,$(shell uname -m)),$(BUILD)/src/backend/cuda/nvidia/late.o)
CUDA_LIBS := -L$(CUDA_HOME)/lib64 -Wl,-rpath,$(CUDA_HOME)/lib64 $(if $(LATE),,-lcublas -lcudnn) -lcudart_static -lrt -ldl
NVCC_FLAGS := -std=c++17 -O3 -lineinfo -fmad=false -Werror all-warnings -Xptxas -v -Xcompiler -Wall,-Wextra,-Werror \
  -Iinclude -Isrc -I. $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) $(if $(filter 90a,$(CUDA_ARCHS)),-DLIPS_SM90A)
# A local variable that nothing has written holds a pattern, as shared and device memory do (tests/cusim).
SIM_FLAGS := -std=c++17 -g -O2 -ffp-contract=off -fno-math-errno -ftrivial-auto-var-init=pattern -pthread -Wall -Wextra \
  -Wshadow -Werror -Wno-unknown-pragmas -Wno-deprecated-declarations -fvect-cost-model=dynamic -Iinclude -Isrc $(CUDA_INCLUDE) $(CFLAGS_$(FLAGS)) $(CFLAGS)
# On a device every access must be aligned to its size: said by tests/cusim/alignment.cpp, or by the sanitizer.
SIM_ALIGNED := -fsanitize=alignment
CU_SRC := $(wildcard kernels/*.cu)
SIM_OBJ := $(CU_SRC:%.cu=$(SIM)/%.o) $(patsubst %.cpp,$(SIM)/%.o,$(filter-out tests/cusim/test_%,$(wildcard tests/cusim/*.cpp)))
DEVICE_OBJ := $(if $(filter plain,$(FLAGS)),$(CU_SRC:%.cu=$(BUILD)/%.o) $(LATE),$(SIM_OBJ))
else
NO_CUDA_SRC := src/backend/cuda/%
endif

SRC := $(filter-out src/cli/main.c $(NO_CUDA_SRC),$(filter-out src/backend/cpu/isa/%,$(wildcard src/*/*.c src/*/*/*.c)))
ISA_SRC := $(wildcard src/backend/cpu/isa/*.c)
OBJ := $(SRC:%.c=$(BUILD)/%.o) $(foreach i,$(ISAS),$(ISA_SRC:src/backend/cpu/isa/%.c=$(BUILD)/isa/%.$(i).o))
LIB := $(BUILD)/liblipsweep.a
BIN := $(BUILD)/lipsweep
TEST_SRC := $(wildcard tests/*/test_*.c) tests/oracle/driver.c
ifneq ($(CUDA),1)
TEST_SRC := $(filter-out %_cuda.c,$(TEST_SRC))
endif
TEST_BIN := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)
TEST_LIB_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/lib/*.c))
BENCH_LIB := bench/common.c bench/network.c $(if $(filter 1,$(CUDA)),$(wildcard bench/gpu*.c))
BENCH_SRC := $(filter-out $(BENCH_LIB) $(if $(filter 1,$(CUDA)),,bench/gpu% bench/cuda_%),$(wildcard bench/*.c))
CUDA_BENCH := bench/cuda_kernels bench/cuda_networks
BENCH_BIN := $(BENCH_SRC:bench/%.c=$(BUILD)/bench/%)
# The emulator's own tests, and what runs a second time, on the emulated device: the walks over backends, and tests of kernels.
SIM_TEST_BIN := $(patsubst tests/%.cpp,$(SIM)/tests/%,$(wildcard tests/cusim/test_*.cpp))
SIM_PROGRAMS := ops/test_backends ops/test_exact ops/test_refuse nn/test_derivatives nn/test_exec nn/test_readers nn/test_second nn/test_chunk \
  measure/test_certified measure/test_curvature measure/test_edges measure/test_remainder train/test_rows
SIM_BIN := $(SIM)/lipsweep
# What make test-gpu runs, linked with NVIDIA's libraries; GPU=emulated rehearses it.
GPU_PROGRAMS := $(sort $(SIM_PROGRAMS) $(patsubst tests/%.c,%,$(wildcard tests/*/test_*_cuda.c)))
GPU_BUILD := $(if $(filter emulated,$(GPU)),$(SIM),$(BUILD))
SIM_AGAIN := $(if $(filter build/cusim,$(SIM)),$(patsubst tests/%.c,$(SIM)/tests/%,$(sort $(SIM_PROGRAMS:%=tests/%.c) $(wildcard tests/*/test_*_cuda.c))))
FUZZ_BIN := $(patsubst tests/fuzz/fuzz_%.c,build/fuzz/fuzzers/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all run test test-quick test-gpu gpu cusim ptxas race bench asan asan-cuda fuzz fuzz-bins fuzzers config deps deps-test clean help install-links
.SECONDARY:

all: $(BIN) $(LIB) ## build build/lipsweep and build/liblipsweep.a
ifeq ($(FLAGS),plain)
	$(Q)ln -sfn plain/lipsweep build/lipsweep && ln -sfn plain/liblipsweep.a build/liblipsweep.a
endif

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

config: ## what was decided
	@echo "compiler   $(CC) ($$($(CC) -dumpfullversion -dumpversion))"; echo "flags      $(FLAGS): $(ALL_CFLAGS)"
	@echo "cuda       $(if $(filter 1,$(CUDA)),$(CUDA_HOME): $(CUDA_ARCHS:%=sm_%),no$(if $(CUDA_FOUND),, (no $(CUDA_LACKS) under $(or $(CUDA_HOME),/usr/local/cuda))))"
	@echo "kernels    $(ISAS)"; echo "commit     $(COMMIT)"; echo "libraries  $(LINK_LIBS)"

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The commit is compiled into one object, rebuilt when it changes.
$(BUILD)/src/base/version.o: $(BUILD)/commit
$(BUILD)/src/base/version.o: ALL_CFLAGS += -DLIPS_COMMIT='"$(COMMIT)"'
$(BUILD)/commit: FORCE
	@mkdir -p $(@D); echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' >$@
# cuDNN's convolution functions are all marked deprecated in favour of its graphs.
$(BUILD)/src/backend/cuda/%.o: ALL_CFLAGS += -Wno-deprecated-declarations

# So is the choice of CUDA=: the list of backends is the one place in src that depends on it.
$(BUILD)/src/backend/backends.o $(LIB) $(BIN): $(BUILD)/cuda
$(BUILD)/src/backend/backends.o: ALL_CFLAGS += $(if $(filter 1,$(CUDA)),-DLIPS_CUDA)
$(BUILD)/cuda: FORCE
	@mkdir -p $(@D); echo 'CUDA=$(CUDA)' | cmp -s - $@ || echo 'CUDA=$(CUDA)' >$@
$(BUILD)/archs: FORCE
	@mkdir -p $(@D); echo '$(CUDA_ARCHS)' | cmp -s - $@ || echo '$(CUDA_ARCHS)' >$@
.PHONY: FORCE

define ISA_RULE
$$(BUILD)/isa/%.$(1).o: src/backend/cpu/isa/%.c
	@mkdir -p $$(@D)
	@echo "CC $$< ($(1))"
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ISA_$(1)) -DLIPS_ISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach i,$(ISAS),$(eval $(call ISA_RULE,$(i))))

ifeq ($(CUDA),1)
ifeq ($(FLAGS),plain)
# ptxas reports registers and spills of each kernel to a file beside the object; anything else it says is shown.
$(BUILD)/kernels/%.o: kernels/%.cu $(BUILD)/archs
	@mkdir -p $(@D)
	@echo "NVCC $<"
	$(Q)$(CUDA_HOME)/bin/nvcc $(NVCC_FLAGS) -MMD -MP -c $< -o $@ 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas) >&2; rm -f $@; exit 1; }
endif
$(BUILD)/late_list.h: $(OBJ)
	$(Q)nm -u $(filter $(BUILD)/src/backend/cuda/%,$^) | awk '$$2 ~ /^(cublas|cudnn)[A-Z]/ {print $$2}' | sort -u | \
	  awk '{print "ENTRY(" NR - 1 ", " $$1 ")"}' >$@.new && { cmp -s $@.new $@ || cp $@.new $@; }
$(LATE): $(BUILD)/late_list.h
$(LATE): ALL_CFLAGS += -I$(BUILD)
$(SIM)/kernels/%.o: kernels/%.cu
	@mkdir -p $(@D)
	@echo "CXX $<"
	$(Q)$(CXX) $(SIM_FLAGS) $(SIM_ALIGNED) -MMD -MP -x c++ -c $< -o $@
$(SIM)/tests/cusim/%.o: tests/cusim/%.cpp
	@mkdir -p $(@D)
	@echo "CXX $<"
	$(Q)$(CXX) $(SIM_FLAGS) $(if $(filter test_%,$(notdir $@)),$(SIM_ALIGNED)) -MMD -MP -c $< -o $@
$(SIM)/libcusim.a: $(OBJ) $(SIM_OBJ) $(BUILD)/cuda
	$(Q)mkdir -p $(@D) && rm -f $@ && ar rcsT $@ $(filter %.o,$^)
$(SIM)/tests/cusim/%: $(SIM)/tests/cusim/%.o $(TEST_LIB_OBJ) $(SIM)/libcusim.a
	$(Q)$(CXX) $(SIM_FLAGS) $^ -lcmocka $(LDLIBS) -fopenmp -o $@
ifeq ($(FLAGS),plain)
$(SIM)/lipsweep: $(BUILD)/src/cli/main.o $(SIM)/libcusim.a
	$(Q)$(CC) $(ALL_CFLAGS) $^ $(LDLIBS) -o $@
$(SIM)/bench/%: $(BUILD)/bench/%.o $(BENCH_LIB:%.c=$(BUILD)/%.o) $(SIM)/libcusim.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $^ $(LDLIBS) -o $@
$(SIM)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(SIM)/libcusim.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $^ -lcmocka $(LDLIBS) -o $@
endif
# The race detector: TSan in kernels alone, each of their threads a TSan fiber; host code and emulator without.
RACE := build/cusim-race
RACE_FLAGS := $(SIM_FLAGS) -DCUSIM_TSAN
RACE_OBJ := $(SIM_OBJ:$(SIM)/%=$(RACE)/%)
$(RACE)/kernels/%.o: kernels/%.cu
	@mkdir -p $(@D)
	@echo "CXX $< (race detector)"
	$(Q)$(CXX) $(RACE_FLAGS) -fsanitize=thread -MMD -MP -x c++ -c $< -o $@
$(RACE)/tests/cusim/race/%.o: tests/cusim/race/%.cpp
	@mkdir -p $(@D)
	@echo "CXX $<"
	$(Q)$(CXX) $(RACE_FLAGS) -fsanitize=thread -MMD -MP -c $< -o $@
$(RACE)/tests/cusim/%.o: tests/cusim/%.cpp
	@mkdir -p $(@D)
	@echo "CXX $< (race detector)"
	$(Q)$(CXX) $(RACE_FLAGS) -MMD -MP -c $< -o $@
$(RACE)/libcusim.a: $(OBJ) $(RACE_OBJ) $(BUILD)/cuda
	$(Q)mkdir -p $(@D) && rm -f $@ && ar rcsT $@ $(filter %.o,$^)
$(RACE)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(RACE)/libcusim.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=thread $^ -lcmocka $(LDLIBS) -o $@
$(RACE)/tests/cusim/test_%: $(SIM)/tests/cusim/test_%.o $(TEST_LIB_OBJ) $(RACE)/libcusim.a
	@mkdir -p $(@D)
	$(Q)$(CXX) -fsanitize=thread $^ -lcmocka $(LDLIBS) -fopenmp -pthread -o $@
RACE_TESTS := $(patsubst tests/%.c,%,$(wildcard tests/ops/test_*_cuda.c)) cusim/test_conv_kernels cusim/test_flat_kernels cusim/test_norm_kernels ops/test_backends ops/test_backends@12
race: all $(addprefix $(RACE)/tests/,$(filter-out %@12,$(RACE_TESTS))) ## the kernels' tests under the race detector (minutes)
	$(Q)tests/cusim/race/run $(BUILD)/kernels $(RACE)/tests $(RACE_TESTS)
$(RACE)/planted: $(RACE)/tests/cusim/race/planted.o $(RACE)/libcusim.a
	$(Q)$(CXX) -fsanitize=thread $^ $(LDLIBS) -fopenmp -pthread -o $@
ptxas: all ## registers, spills and shared memory of each kernel and architecture
	$(Q)kernels/report $(BUILD)/kernels
cusim: $(SIM_BIN) ## build build/cusim/lipsweep: the whole program on the emulated CUDA device
else
cusim ptxas race:
	@echo "error: CUDA=0: make $@ needs the CUDA toolkit" >&2; exit 1
endif

$(LIB): $(OBJ) $(DEVICE_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)

# What the plain build needs besides LDLIBS: the device's libraries.
LINK_LIBS = $(LDLIBS) $(if $(filter plain,$(FLAGS)),$(CUDA_LIBS))

$(BIN): $(BUILD)/src/cli/main.o $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $(filter %.o %.a,$^) $(LINK_LIBS) -o $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $^ -lcmocka $(LINK_LIBS) -o $@

$(BUILD)/bench/%: $(BUILD)/bench/%.o $(BENCH_LIB:%.c=$(BUILD)/%.o) $(LIB)
	$(Q)$(CC) $(ALL_CFLAGS) $^ $(LINK_LIBS) -o $@

run: deps ## install what is missing, build, run the default sweep, print where its report is
	$(Q)$(MAKE) --no-print-directory all
	./build/lipsweep sweep configs/fashion-mlp.yaml $(ARGS)

test: deps-test ## install what is missing, build, run every test
	$(Q)$(MAKE) --no-print-directory test-quick

ifeq ($(CUDA),1)
test-quick: $(SIM_BIN) $(SIM_TEST_BIN) $(SIM_AGAIN) $(if $(filter plain,$(FLAGS)),$(RACE)/planted $(foreach b,$(BUILD) $(SIM),$(CUDA_BENCH:%=$b/%)))
endif
test-quick: all $(TEST_BIN) ## the tests without looking for packages
	$(Q)BUILD=$(BUILD) SIM=$(SIM) SIM_AGAIN="$(SIM_AGAIN:$(SIM)/tests/%=%)" tests/run $(TESTS)

ifeq ($(CUDA)$(FLAGS),1plain)
test-gpu: ## the cuda backend's tests on this machine's GPU, and compute-sanitizer (GPU=emulated: a rehearsal)
	$(Q)$(if $(filter emulated,$(GPU)),,tests/run-gpu --driver)
	$(Q)$(MAKE) --no-print-directory deps-test $(GPU_PROGRAMS:%=$(GPU_BUILD)/tests/%) $(GPU_BUILD)/tests/oracle/driver $(GPU_BUILD)/lipsweep
	$(Q)BUILD=$(GPU_BUILD) PROGRAMS="$(GPU_PROGRAMS)" CUDA_HOME=$(CUDA_HOME) tests/run-gpu $(TESTS)
gpu: ## test-gpu, benches and PyTorch on this machine's GPU, into bench/results (GPU=emulated: a rehearsal)
	$(Q)$(if $(filter emulated,$(GPU)),,tests/run-gpu --driver)
	$(Q)$(MAKE) --no-print-directory deps-test $(GPU_PROGRAMS:%=$(GPU_BUILD)/tests/%) $(GPU_BUILD)/tests/oracle/driver $(GPU_BUILD)/lipsweep $(CUDA_BENCH:%=$(GPU_BUILD)/%)
	$(Q)PROGRAMS="$(GPU_PROGRAMS)" CUDA_HOME=$(CUDA_HOME) bench/gpu_all $(GPU_BUILD)
else
test-gpu gpu:
	@echo "error: make $@: needs the plain build with the CUDA toolkit (nvcc, cuBLAS, cuDNN)" >&2; exit 1
endif

# Without the emulated device, which asan-cuda has: all of its tests would take minutes more.
asan: ## the tests under the address and undefined-behaviour sanitizers
	$(Q)$(MAKE) --no-print-directory FLAGS=asan CUDA=0 test-quick

# The emulator's own tests, every op, derivatives, a training and small sweeps whose calls fail. In a folder of its own, so
# that switching between the two builds nothing again.
ASAN_CUDA := $(sort $(patsubst tests/%.cpp,%,$(wildcard tests/cusim/test_*.cpp)) $(patsubst tests/%.c,%,$(wildcard tests/*/test_*_cuda.c)) \
  ops/test_backends ops/test_exact nn/test_exec nn/test_readers nn/test_chunk)
asan-cuda: ## the cuda backend under the same sanitizers, on the emulated device (minutes)
	$(Q)$(MAKE) --no-print-directory FLAGS=asan CUDA=1 build/asan-cuda/lipsweep $(ASAN_CUDA:%=build/asan-cuda/tests/%)
	$(Q)BUILD=build/asan-cuda SIM=build/asan-cuda LIPS_TEST_BACKEND=cuda LIPS_TEST_CASES=$(or $(LIPS_TEST_CASES),2) \
	  tests/run $(ASAN_CUDA:%=tests/%.c) tests/cusim/test_failures.py tests/faults/test_device.py

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

-include $(shell find $(BUILD) $(SIM) $(RACE) -name '*.d' 2>/dev/null)
