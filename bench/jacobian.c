/*
 * The exact Jacobian-norm pass (section B: op and fro under all five output maps) on convnet,
 * resnet18 and vit (3 x 32 x 32; six blocks) and mlp (28 x 28, one hidden layer), K = 10:
 * forward, ten stacked cotangents, Grams, eigenvalues, statistics, one call per row. Operations:
 * (1 + K) F per sample, F the forward pass's. A row with several threads gives the time of the
 * calling thread, which works as one of them, and operations and bytes per thread, so that "peak"
 * is always a share of one core's. err_rel: the norms of the first samples against ref.
 * bench/peer/jacobian.py does the same in PyTorch with the same weights and inputs.
 */
#include "common.h"
#include "network.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { K = 10, MEAN_OVER = 16 };

typedef struct job {
    bench_network b;
    int64_t checked;
    bench_measuring how;
} job;

static void call(void *user)
{
    job *j = user;
    lips_measurement m = bench_measure(&j->b, &j->how, j->b.n);
    lips_measurement_free(&m);
}

static double check(void *user, int64_t *wrong)
{
    job *j = user;
    return bench_measure_error(&j->b, &j->how, j->checked, 1e-5, wrong);
}

/* For the comparison with another program: a comment line that it can read. */
static void print_mean(const job *j)
{
    lips_measurement m = bench_measure(&j->b, &j->how, MEAN_OVER);
    printf("# mean %s w=%lld %.9g\n", lips_net_spec(j->b.net)->kind,
           (long long)lips_net_spec(j->b.net)->width, m.records[0].mean);
    lips_measurement_free(&m);
}

/* The clock on the wall, for several threads: the median of five calls. Only an otherwise idle
 * machine gives a meaningful number. */
static void print_wall(job *j)
{
    enum { CALLS = 5 };
    double t[CALLS];
    for (int i = 0; i < CALLS; i++) {
        double start = lips_now();
        call(j);
        t[i] = lips_now() - start;
        for (int k = i; k > 0 && t[k] < t[k - 1]; k--) {
            double swap = t[k];
            t[k] = t[k - 1];
            t[k - 1] = swap;
        }
    }
    printf("# wall %s w=%lld threads=%d samples/s=%.1f\n", lips_net_spec(j->b.net)->kind,
           (long long)lips_net_spec(j->b.net)->width, j->how.threads,
           (double)j->b.n / t[CALLS / 2]);
}

static void row(bench *b, const char *kind, int64_t w, int64_t n, int threads)
{
    const bool conv = strcmp(kind, "mlp") != 0;
    const lips_model_spec spec = bench_model(kind, w, K);
    int64_t features = spec.c * spec.h * spec.w;
    job j = {.checked = conv && w > 16 ? 1 : 4,
             .how = {.backend = "cpu", .metrics = "jacobian", .threads = threads}};
    char shape[64];
    snprintf(shape, sizeof shape, "w=%lld,n=%lld,threads=%d", (long long)w, (long long)n, threads);
    bench_network_make(&j.b, &spec, n);
    bench_case c = {.op = "jacobian",
                    .variant = kind,
                    .dtype = "f32",
                    .shape = shape,
                    .bytes = 4.0 * (double)(n * features + lips_net_params(j.b.net)) / threads,
                    .flops = (1 + K) * lips_net_forward_flops(j.b.net) * (double)n / threads,
                    .call = call,
                    .user = &j,
                    .check = threads == 1 ? check : NULL};
    if (threads == 1 && bench_selected(b, &c))
        print_mean(&j);
    bench_row(b, &c);
    if (threads > 1 && bench_selected(b, &c))
        print_wall(&j);
    bench_network_free(&j.b);
}

int main(int argc, char **argv)
{
    bench *b = bench_begin(argc, argv);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    for (int threads = 1; threads <= cores; threads += cores > 1 ? (int)cores - 1 : 1) {
        for (int64_t w = 1; w <= 64; w *= 2)
            row(b, "convnet", w, w <= 4 ? 256 : w <= 16 ? 64 : 32, threads);
        for (int64_t w = 4; w <= 256; w *= 4)
            row(b, "mlp", w, 2048, threads);
        for (int64_t w = 1; w <= 16; w *= 2)
            row(b, "resnet18", w, w <= 4 ? 128 : 32, threads);
        for (int64_t w = 4; w <= 64; w *= 4) /* of width 1 the Jacobian is 0 */
            row(b, "vit", w, 64, threads);
    }
    return bench_end(b);
}
