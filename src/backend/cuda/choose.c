#include "backend/cuda/choose.h"
#include "backend/cuda/ops.h"
#include "backend/cuda/prove.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const way_names[] = {"tile", "patch", "wgmma", "narrow", "library"};
static const char *const precision_names[] = {"f32", "tf32", "bf16"};

enum { TEXT_MAX = 512, CHOICES_MAX = 4096 };

/* A line of the file: the product's name and sizes, a tab, the way, a tab, milliseconds of each.
 * Once a product has been looked up, its numbers stand beside its text, and are compared instead.
 */
typedef struct choice {
    char product[TEXT_MAX];
    lips_cuda_way way;
    const char *op; /* the pointer; NULL: not looked up yet */
    bool kept;      /* it stands in the file of keep_choices */
    lips_precision precision;
    int64_t size[LIPS_CUDA_SIZES];
} choice;

struct lips_cuda_choices {
    choice *list;
    int n, cap;
    char *file; /* of keep_choices; NULL: none */
    bool loaded, warned;
};

const char *lips_cuda_way_name(lips_cuda_way way)
{
    return way_names[way];
}

void lips_cuda_choices_free(struct lips_cuda_choices *choices)
{
    if (!choices)
        return;
    free(choices->list);
    free(choices->file);
    free(choices);
}

/* Device and library versions belong to the product: another one measures anew. */
static void describe(const lips_cuda *h, const lips_cuda_product *p, char *text, size_t size)
{
    char libraries[64];
    lips_cuda_libraries_describe(libraries, sizeof libraries);
    int n = snprintf(text, size, "%s, %s: %s %s", h->prop.name, libraries, p->op,
                     precision_names[p->precision]);
    for (int i = 0; i < LIPS_CUDA_SIZES && n > 0 && (size_t)n < size; i++)
        n += snprintf(text + n, size - (size_t)n, " %" PRId64, p->size[i]);
}

static const choice *find_seen(const lips_cuda *h, const lips_cuda_product *p)
{
    for (int i = 0; h->choices && i < h->choices->n; i++) {
        const choice *c = &h->choices->list[i];
        if (c->op == p->op && c->precision == p->precision &&
            memcmp(c->size, p->size, sizeof c->size) == 0)
            return c;
    }
    return NULL;
}

static choice *find(const lips_cuda *h, const char *product)
{
    for (int i = 0; h->choices && i < h->choices->n; i++)
        if (strcmp(h->choices->list[i].product, product) == 0)
            return &h->choices->list[i];
    return NULL;
}

static lips_status need_choices(lips_cuda *h)
{
    if (!h->choices && !(h->choices = calloc(1, sizeof *h->choices)))
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)",
                         sizeof *h->choices);
    return LIPS_OK;
}

/* The first choice for a product stays. */
static lips_status keep(lips_cuda *h, const char *product, lips_cuda_way way, bool kept)
{
    LIPS_TRY(need_choices(h));
    struct lips_cuda_choices *c = h->choices;
    if (find(h, product) || c->n == CHOICES_MAX)
        return LIPS_OK;
    if (c->n == c->cap) {
        const int cap = c->cap ? 2 * c->cap : 16;
        choice *list = realloc(c->list, (size_t)cap * sizeof *list);
        if (!list)
            return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)",
                             (size_t)cap * sizeof *list);
        c->list = list;
        c->cap = cap;
    }
    c->list[c->n] = (choice){.way = way, .kept = kept};
    snprintf(c->list[c->n++].product, TEXT_MAX, "%s", product);
    return LIPS_OK;
}

/* False where there is no place for a cache. */
static bool cache_path(char *path, size_t size, bool create)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[1024];
    if (xdg && xdg[0] == '/')
        snprintf(folder, sizeof folder, "%s", xdg);
    else if (home && home[0] == '/')
        snprintf(folder, sizeof folder, "%s/.cache", home);
    else
        return false;
    if (create)
        (void)mkdir(folder, 0777);
    strncat(folder, "/lipsweep", sizeof folder - strlen(folder) - 1);
    if (create)
        (void)mkdir(folder, 0777);
    return snprintf(path, size, "%s/cuda-choices.tsv", folder) < (int)size;
}

/* Takes over the lines of a file; one that is torn or not understood is passed over. */
static lips_status load_file(lips_cuda *h, const char *path, bool kept)
{
    char line[TEXT_MAX + 128];
    FILE *f = fopen(path, "re");
    lips_status st = LIPS_OK;
    while (f && st == LIPS_OK && fgets(line, sizeof line, f)) {
        char *tab = strchr(line, '\t');
        if (!tab || !strchr(line, '\n') || tab - line >= TEXT_MAX)
            continue;
        *tab = '\0';
        for (int way = 0; way < LIPS_CUDA_WAYS && st == LIPS_OK; way++) {
            const size_t n = strlen(way_names[way]);
            if (strncmp(tab + 1, way_names[way], n) == 0 && tab[1 + n] == '\t')
                st = keep(h, line, (lips_cuda_way)way, kept);
        }
    }
    if (f)
        (void)fclose(f);
    return st;
}

/* The kept file's word comes before the cache's. */
static lips_status load(lips_cuda *h)
{
    char path[1100];
    LIPS_TRY(need_choices(h));
    h->choices->loaded = true;
    if (h->choices->file)
        LIPS_TRY(load_file(h, h->choices->file, true));
    return cache_path(path, sizeof path, false) ? load_file(h, path, false) : LIPS_OK;
}

/* One write() at the end of the file, so that lines of several processes do not mix. */
static bool append_to(const char *path, const char *product, lips_cuda_way way, const char *times)
{
    char line[TEXT_MAX + 128];
    const int n = snprintf(line, sizeof line, "%s\t%s\t%s\n", product, way_names[way], times);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const bool ok = fd >= 0 && n > 0 && n < (int)sizeof line && write(fd, line, (size_t)n) == n;
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

/* A cache that cannot be written costs a measurement next time, no more. */
static void append_to_cache(const char *product, lips_cuda_way way, const char *times)
{
    char path[1100];
    if (cache_path(path, sizeof path, true))
        (void)append_to(path, product, way, times);
}

/* Into the kept file, if there is one: without it a resumed run might choose anew. */
static void append_to_kept(lips_cuda *h, const char *product, lips_cuda_way way, const char *times)
{
    struct lips_cuda_choices *c = h->choices;
    if (!c->file || append_to(c->file, product, way, times) || c->warned)
        return;
    c->warned = true;
    lips_warn("cannot write %s: %s; a run that is resumed may choose other kernels, whose results "
              "differ by rounding",
              c->file, strerror(errno));
}

typedef struct clock_pair {
    cudaEvent_t start, stop;
} clock_pair;

/* Milliseconds of one run: the least of three, after one that warms up. */
static lips_status time_way(lips_cuda *h, const lips_cuda_product *p, lips_cuda_way way,
                            const clock_pair *c, float *out)
{
    LIPS_TRY(p->run(h, p->args, way));
    for (int i = 0; i < 3; i++) {
        float ms;
        LIPS_TRY_CUDA(cudaEventRecord(c->start, h->stream));
        LIPS_TRY(p->run(h, p->args, way));
        LIPS_TRY_CUDA(cudaEventRecord(c->stop, h->stream));
        LIPS_TRY(lips_cuda_wait_event(h, c->stop));
        LIPS_TRY_CUDA(cudaEventElapsedTime(&ms, c->start, c->stop));
        *out = i == 0 || ms < *out ? ms : *out;
    }
    return LIPS_OK;
}

/* A library that does not do the shape, or for want of memory, is not chosen. */
static bool passed_over(lips_cuda_way way, lips_status st)
{
    if (way != LIPS_CUDA_LIBRARY || (st != LIPS_ERR_UNSUPPORTED && st != LIPS_ERR_MEMORY))
        return false;
    lips_error_clear();
    return true;
}

static lips_status time_all(lips_cuda *h, const lips_cuda_product *p, const clock_pair *c,
                            lips_cuda_way *out, float *ms)
{
    bool offered[LIPS_CUDA_WAYS];
    memcpy(offered, p->offered, sizeof offered);
    LIPS_TRY(lips_cuda_prove(h, p, &offered));
    *out = offered[p->rule] ? p->rule : LIPS_CUDA_TILE;
    for (int way = 0; way < LIPS_CUDA_WAYS; way++) {
        if (!offered[way])
            continue;
        lips_status st = time_way(h, p, (lips_cuda_way)way, c, &ms[way]);
        if (passed_over((lips_cuda_way)way, st))
            continue;
        LIPS_TRY(st);
        if (ms[*out] <= 0 || ms[way] < ms[*out])
            *out = (lips_cuda_way)way;
    }
    return LIPS_OK;
}

typedef struct trial {
    clock_pair clock;
    void *sum, *kept;
} trial;

static lips_status begin_trial(trial *t, const lips_cuda_product *p)
{
    LIPS_TRY_CUDA(cudaEventCreate(&t->clock.start));
    LIPS_TRY_CUDA(cudaEventCreate(&t->clock.stop));
    if (!p->sum)
        return LIPS_OK;
    LIPS_TRY_CUDA(cudaMalloc(&t->sum, p->sum_bytes));
    t->kept = *p->sum;
    *p->sum = t->sum;
    return LIPS_OK;
}

static void end_trial(trial *t, const lips_cuda_product *p)
{
    if (t->sum) {
        *p->sum = t->kept;
        (void)cudaFree(t->sum);
    }
    if (t->clock.start)
        (void)cudaEventDestroy(t->clock.start);
    if (t->clock.stop)
        (void)cudaEventDestroy(t->clock.stop);
}

static lips_status measure(lips_cuda *h, const lips_cuda_product *p, const char *product)
{
    trial t = {0};
    char times[128];
    float ms[LIPS_CUDA_WAYS] = {0};
    lips_cuda_way way = p->rule;
    lips_status st;
    LIPS_TRY_GOTO(st, begin_trial(&t, p), out);
    LIPS_TRY_GOTO(st, time_all(h, p, &t.clock, &way, ms), out);
    snprintf(times, sizeof times, "tile %.4f ms, patch %.4f, wgmma %.4f, narrow %.4f, library %.4f",
             (double)ms[LIPS_CUDA_TILE], (double)ms[LIPS_CUDA_PATCH], (double)ms[LIPS_CUDA_WGMMA],
             (double)ms[LIPS_CUDA_NARROW], (double)ms[LIPS_CUDA_LIBRARY]);
    append_to_cache(product, way, times);
    append_to_kept(h, product, way, times);
    LIPS_TRY_GOTO(st, load(h), out); /* another process or worker may have been first */
    st = keep(h, product, way, true);
out:
    end_trial(&t, p);
    return st;
}

bool lips_cuda_emulated(const lips_cuda *h)
{
    return strncmp(h->prop.name, LIPS_CUDA_EMULATED, strlen(LIPS_CUDA_EMULATED)) == 0;
}

/* The product's choice, from the file or measured now; NULL while a graph is captured. */
static lips_status look_up(lips_cuda *h, const lips_cuda_product *p, const choice **out)
{
    enum cudaStreamCaptureStatus capture;
    char product[TEXT_MAX];
    *out = NULL;
    LIPS_TRY_CUDA(cudaStreamIsCapturing(h->stream, &capture));
    if (capture != cudaStreamCaptureStatusNone)
        return LIPS_OK;
    if (!h->choices || !h->choices->loaded)
        LIPS_TRY(load(h));
    describe(h, p, product, sizeof product);
    if (!find(h, product))
        LIPS_TRY(measure(h, p, product));
    choice *c = find(h, product);
    if (!c)
        return LIPS_OK;
    if (!c->kept)
        append_to_kept(h, product, c->way, "from the cache");
    c->kept = true;
    c->op = p->op;
    c->precision = p->precision;
    memcpy(c->size, p->size, sizeof c->size);
    *out = c;
    return LIPS_OK;
}

lips_status cuda_op_keep_choices(lips_backend *be, const char *path)
{
    lips_cuda *h = (lips_cuda *)be;
    if (h->choices && h->choices->loaded)
        return lips_fail(LIPS_ERR_USAGE, "cuda: choices were made before their file was named");
    LIPS_TRY(need_choices(h));
    char *file = strdup(path);
    if (!file)
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)", strlen(path));
    free(h->choices->file);
    h->choices->file = file;
    return LIPS_OK;
}

lips_status lips_cuda_choose(lips_cuda *h, const lips_cuda_product *p, lips_library asked,
                             lips_cuda_way *out)
{
    *out = p->rule;
    if (asked == LIPS_LIBRARY_NVIDIA && p->offered[LIPS_CUDA_LIBRARY])
        *out = LIPS_CUDA_LIBRARY;
    const bool measured = p->offered[LIPS_CUDA_LIBRARY] || p->offered[LIPS_CUDA_WGMMA];
    if (asked != LIPS_LIBRARY_AUTO || !measured || lips_cuda_emulated(h))
        return LIPS_OK;
    const choice *known = find_seen(h, p);
    if (!known)
        LIPS_TRY(look_up(h, p, &known));
    if (known && p->offered[known->way])
        *out = known->way;
    return LIPS_OK;
}

lips_status lips_cuda_run(lips_cuda *h, const lips_cuda_product *p, lips_library asked)
{
    lips_cuda_way way;
    LIPS_TRY(lips_cuda_choose(h, p, asked, &way));
    lips_status st = p->run(h, p->args, way);
    if (way != LIPS_CUDA_LIBRARY || st != LIPS_ERR_UNSUPPORTED)
        return st;
    lips_error_clear();
    return p->run(h, p->args, p->rule);
}

void cuda_op_each_choice(lips_choice_fn *f, void *user)
{
    char path[1100], line[TEXT_MAX + 128];
    FILE *cache = cache_path(path, sizeof path, false) ? fopen(path, "r") : NULL;
    while (cache && fgets(line, sizeof line, cache)) {
        char *way = strchr(line, '\t'), *times = way ? strchr(way + 1, '\t') : NULL;
        char *end = times ? strchr(times, '\n') : NULL;
        if (!end)
            continue;
        *way = *times = *end = '\0';
        f(user, line, way + 1, times + 1);
    }
    if (cache)
        (void)fclose(cache);
}
