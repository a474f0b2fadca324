/*
 * example.c - the public C API in one page: load a network, feed it inputs, print what lipsweep
 * measures.
 *
 *   cc -std=c11 -Iinclude tests/api/example.c build/liblipsweep.a -fopenmp -ldnnl -llapacke
 * -lopenblas \ -lyaml -ljansson -lsqlite3 -lz -lxxhash -lm -o example
 *   ./example WEIGHTS.safetensors [KIND WIDTH DEPTH CLASSES CHANNELS HEIGHT WIDTH_PIXELS]
 *
 * Weights written by lipsweep describe themselves; a PyTorch state_dict needs the description.
 */
#include <lipsweep/lipsweep.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Your own inputs go here: n rows of (C,H,W) floats, standardised as in training, and their
 * classes. */
static void fill_inputs(float *x, int64_t *labels, int64_t n, const lips_model_info *info)
{
    int64_t features = info->channels * info->height * info->width_pixels;
    for (int64_t i = 0; i < n * features; i++)
        x[i] = (float)((i * 37) % 101) / 50.0f - 1.0f;
    for (int64_t i = 0; i < n; i++)
        labels[i] = i % info->classes;
}

static lips_status measure(const lips_model *model, const lips_samples *inputs, int64_t classes)
{
    lips_results *results = NULL;
    lips_measuring what = {
        .inputs = *inputs, .metrics = "A,B,layer.param_jacobian", .per_sample = true};
    double *logits = calloc((size_t)(inputs->n * classes), sizeof *logits);
    if (!logits)
        return LIPS_ERR_MEMORY;
    lips_status st = lips_model_logits(model, logits, inputs, NULL);
    if (st == LIPS_OK)
        st = lips_model_measure(&results, model, &what);
    if (st == LIPS_OK) {
        printf("logit 0 of sample 0: %g\n", logits[0]);
        for (int64_t i = 0; i < lips_results_count(results); i++) {
            lips_result r = lips_results_get(results, i);
            if (strcmp(r.quantity, "jacobian") == 0 && strcmp(r.output, "logits") == 0)
                printf("Jacobian norm %s: mean %g, largest %g\n", r.norm, r.mean, r.max);
            puts(lips_results_json(results, i)); /* or everything, as JSON */
        }
        printf("sample 0 alone: %g\n", lips_results_per_sample(results, "jacobian.op/logits")[0]);
    }
    lips_results_free(results);
    free(logits);
    return st;
}

int main(int argc, char **argv)
{
    enum { N = 8 };
    if (argc != 2 && argc != 9) {
        fprintf(stderr,
                "usage: %s WEIGHTS.safetensors [KIND WIDTH DEPTH CLASSES CHANNELS HEIGHT "
                "WIDTH_PIXELS]\n",
                argv[0]);
        return 2;
    }
    lips_model *model = NULL;
    lips_model_args load = {.path = argv[1]};
    if (argc == 9) {
        load.kind = argv[2];
        load.width = atoll(argv[3]);
        load.depth = atoll(argv[4]);
        load.classes = atoll(argv[5]);
        load.channels = atoll(argv[6]);
        load.height = atoll(argv[7]);
        load.width_pixels = atoll(argv[8]);
    }
    lips_status st = lips_model_load(&model, &load);
    if (st == LIPS_OK) {
        lips_model_info info = lips_model_describe(model);
        int64_t features = info.channels * info.height * info.width_pixels;
        float *x = calloc((size_t)(N * features), sizeof *x);
        int64_t labels[N];
        printf("%s of width %lld, %lld parameters, lipsweep %s\n", info.kind, (long long)info.width,
               (long long)info.parameters, lips_version());
        if (x) {
            fill_inputs(x, labels, N, &info);
            st = measure(model, &(lips_samples){.x = x, .n = N, .labels = labels}, info.classes);
        }
        free(x);
    }
    if (st != LIPS_OK)
        fprintf(stderr, "error: %s\n", lips_error());
    lips_model_free(model);
    return lips_exit_code(st);
}
