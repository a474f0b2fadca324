/* lipsweep export: weights without our metadata, results as CSV. */
#include "base/file.h"
#include "base/safetensors.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { RESULTS_MAX = 1 << 30 };

static const lips_flag flags[] = {
    {"to", "FILE", "where to; results go to standard output without it"},
    {0},
};

/* The tensors as they are; of the metadata only the checksum. */
static lips_status export_weights(const char *from, const char *to)
{
    lips_st_file *f = NULL;
    lips_st_out_tensor *t = NULL;
    lips_status st;
    if (!to)
        return lips_fail(LIPS_ERR_USAGE, "export: weights need --to FILE.safetensors");
    LIPS_TRY_GOTO(st, lips_st_read(&f, from), out);
    int n = lips_st_count(f);
    t = calloc((size_t)n + 1, sizeof *t);
    if (!t) {
        st = lips_fail(LIPS_ERR_MEMORY, "no memory for %d tensors", n);
        goto out;
    }
    for (int i = 0; i < n; i++) {
        const lips_st_tensor *s = lips_st_at(f, i);
        t[i] = (lips_st_out_tensor){
            .name = s->name, .dtype = s->dtype, .ndim = s->ndim, .data = s->data};
        memcpy(t[i].shape, s->shape, sizeof s->shape);
    }
    LIPS_TRY_GOTO(st, lips_st_write(to, t, n, NULL, 0), out);
out:
    free(t);
    lips_st_free(f);
    return st;
}

static lips_status export_results(const char *out, const char *to)
{
    char path[LIPS_PATH_MAX], *text;
    size_t size;
    LIPS_TRY(lips_path(path, sizeof path, "%s/results.csv", out));
    if (!lips_file_exists(path))
        return lips_fail(LIPS_ERR_DATA, "there is no %s: lipsweep report %s writes it", path, out);
    LIPS_TRY(lips_file_read(&text, &size, path, RESULTS_MAX));
    lips_status st = LIPS_OK;
    if (to)
        st = lips_file_write(to, text, size);
    else
        fwrite(text, 1, size, stdout); /* main checks stdout */
    free(text);
    return st;
}

static lips_status run(const lips_args *a)
{
    struct stat s;
    const char *what = a->positional[0], *to = lips_args_value(a, "to");
    bool folder = stat(what, &s) == 0 && S_ISDIR(s.st_mode);
    return folder ? export_results(what, to) : export_weights(what, to);
}

const lips_command lips_command_export = {
    .name = "export",
    .usage = "OUT [--to FILE.csv] | FILE.safetensors --to FILE.safetensors",
    .summary = "writes an output folder's results as CSV, or weights as plain safetensors",
    .details =
        "Weights keep PyTorch's names and lose the description of the cell that they are from.",
    .flags = flags,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
