/* Peak memory of the measuring pass against its plan: the resident set of a process of its own. */
#include "../lib/tiny_net.h"
#include "measure/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct memory_case {
    lips_model_spec spec;
    int64_t n;
    int threads;
    const char *metrics;
    double loose; /* the plan may be so many times what is taken: iterations end early */
} memory_case;

/* Beyond the plan: oneDNN's generated code, the records, small allocations' rounding; per thread a
 * stack and what its arena of the allocator keeps. */
static const double SLACK = 2e6, SLACK_THREAD = 1e6;

/* Sanitizers keep freed memory and notes on all of it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool instrumented = true;
#else
static const bool instrumented = false;
#endif

/* Bytes of a line "NAME: n kB" of this process' status; -1 if there is none. */
static double status_bytes(const char *name)
{
    char line[256];
    long long kib = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtoll(line + strlen(name), NULL, 10);
    if (f)
        fclose(f);
    return kib < 0 ? -1 : (double)kib * 1024;
}

static lips_measure_args args(const tiny_net *t, const memory_case *c)
{
    lips_measure_args a = {.ops = lips_backend_find("cpu"),
                           .threads = c->threads,
                           .network = {.net = t->net,
                                       .params = t->params,
                                       .buffers = t->buffers,
                                       .init = t->init,
                                       .epoch = -1},
                           .inputs = {.n = t->n, .x = t->x, .label = t->label, .split = "inputs"}};
    assert_int_equal(lips_metrics_parse(&a.metrics, c->metrics), LIPS_OK);
    return a;
}

static void run(const lips_measure_args *a)
{
    lips_measurement m;
    assert_int_equal(lips_measure_run(&m, a), LIPS_OK);
    lips_measurement_free(&m);
}

/* Planned and taken bytes of a case, measured in this process. */
static void take(const memory_case *c, double out[2])
{
    memory_case first = *c;
    size_t plan;
    /* Libraries set themselves up at their first use. */
    first.spec.width = 1;
    tiny_net small = tiny_net_create(&first.spec, 1, 1);
    lips_measure_args a = args(&small, &first);
    run(&a);
    tiny_net t = tiny_net_create(&c->spec, c->n, 1);
    a = args(&t, c);
    assert_int_equal(lips_measure_plan_bytes(&a, &plan), LIPS_OK);
    double before = status_bytes("VmRSS:");
    run(&a);
    out[0] = (double)plan;
    out[1] = status_bytes("VmHWM:") - before;
    tiny_net_free(&t);
    tiny_net_free(&small);
}

static void planned(void **state)
{
    (void)state;
    static const char passes[] = "B,C,hessian.trace";
    static const lips_model_spec conv = {
        .kind = "convnet", .width = 16, .classes = 10, .c = 3, .h = 32, .w = 32};
    static const lips_model_spec mlp = {
        .kind = "mlp", .width = 256, .depth = 2, .classes = 10, .c = 1, .h = 28, .w = 28};
    memory_case cases[] = {{conv, 48, 1, "jacobian", 1.5},      {conv, 48, 1, passes, 1.5},
                           {conv, 64, 3, passes, 1.5},          {conv, 1, 1, passes, 1.5},
                           {conv, 32, 1, "layer.weight_op", 8}, {conv, 20, 1, passes, 1.5},
                           {mlp, 400, 2, passes, 1.5},          {mlp, 20000, 1, passes, 1.5}};
    cases[5].spec.classes = 100;
    cases[5].spec.width = 3;
    if (instrumented || status_bytes("VmHWM:") < 0)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got[2];
        int ends[2], exited;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            take(&cases[i], got);
            _exit(write(ends[1], got, sizeof got) == sizeof got ? 0 : 1);
        }
        close(ends[1]);
        assert_int_equal(read(ends[0], got, sizeof got), sizeof got);
        close(ends[0]);
        assert_int_equal(waitpid(child, &exited, 0), child);
        assert_true(WIFEXITED(exited) && WEXITSTATUS(exited) == 0);
        double slack = SLACK + cases[i].threads * SLACK_THREAD;
        print_message("case %zu: planned %.1f MB, taken %.1f MB\n", i, got[0] * 1e-6,
                      got[1] * 1e-6);
        assert_true(got[1] <= got[0] + slack);
        /* and not by a plan that is merely large */
        assert_true(got[0] <= cases[i].loose * got[1] + slack);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
