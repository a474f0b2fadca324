/* lipsweep info: what this program is, what it runs on, which data it finds, which keys it knows.
 */
#include "backend/cpu/cpu.h"
#include "base/json.h"
#include "base/version.h"
#include "cli/cli.h"
#include "config/options.h"
#include "data/raw.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_MAX = 8 << 20 }; /* thousands of measured choices */

static const lips_flag flags[] = {
    {"json", NULL, "JSON instead of text"},
    {"keys", NULL, "the configuration keys only"},
    {"keys-markdown", NULL, "the configuration keys as tables for a README"},
    {0},
};

static const lips_source file_sources[] = {LIPS_DATA_FASHION_MNIST, LIPS_DATA_IDX,
                                           LIPS_DATA_CIFAR10, LIPS_DATA_CIFAR100};
enum { FILE_SOURCES = sizeof file_sources / sizeof *file_sources };

typedef struct facts {
    int cores;
    const char *isa;
    char dirs[FILE_SOURCES][LIPS_PATH_MAX]; /* "": not found */
} facts;

/* The source's name as a value of the key data. */
static const char *source_name(lips_source s)
{
    const lips_option *options;
    lips_options(&options);
    return options[lips_option_find("data")].choices[s];
}

static lips_status gather(facts *f)
{
    cpu_set_t set;
    const lips_cpu_kernels *kernels;
    const char *own = getenv("LIPSWEEP_DATA_DIR");
    f->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    LIPS_TRY(lips_cpu_kernels_pick(&kernels));
    f->isa = kernels->name;
    for (int i = 0; i < FILE_SOURCES; i++)
        if (lips_source_folder(f->dirs[i], sizeof f->dirs[i], file_sources[i], own) != LIPS_OK)
            f->dirs[i][0] = '\0';
    return LIPS_OK;
}

static void print_choice(void *user, const char *product, const char *way, const char *times)
{
    bool *any = user;
    if (!*any)
        printf("%13schoices measured\n", "");
    *any = true;
    printf("%15s%s: %s; %s\n", "", product, way, times);
}

/* Backends with devices of their own: those that there are, or why there is none. */
static void print_devices(void)
{
    for (int i = 0; lips_backends[i]; i++) {
        const char *name = lips_backends[i]->name;
        bool any = false;
        lips_device d;
        lips_status st = lips_backends[i]->probe(&d, 0);
        const int count = st == LIPS_OK && d.bytes == 0 ? 0 : d.count; /* 0: the host's */
        if (st != LIPS_OK && count == 0)
            printf("%-9s not here: %s\n", name, lips_error());
        for (int k = 0; k < count; k++) {
            if (lips_backends[i]->probe(&d, k) != LIPS_OK)
                printf("%-9s %d: not usable: %s\n", name, k, lips_error());
            else
                printf("%-9s %d: %s, %.1f of %.1f GiB free\n%-9s    %s\n", name, k, d.name,
                       (double)d.bytes_free / 0x1p30, (double)d.bytes / 0x1p30, "", d.detail);
        }
        if (count > 0 && lips_backends[i]->each_choice)
            lips_backends[i]->each_choice(print_choice, &any);
        lips_error_clear();
    }
}

static void choice_json(void *user, const char *product, const char *way, const char *times)
{
    lips_json *j = user;
    lips_json_open(j, NULL, '{');
    lips_json_string(j, "product", product);
    lips_json_string(j, "chosen", way);
    lips_json_string(j, "times", times);
    lips_json_close(j, '}');
}

static void choices_json(lips_json *j)
{
    lips_json_open(j, "choices", '[');
    for (int i = 0; lips_backends[i]; i++)
        if (lips_backends[i]->each_choice)
            lips_backends[i]->each_choice(choice_json, j);
    lips_json_close(j, ']');
}

static void devices_json(lips_json *j)
{
    lips_json_open(j, "devices", '[');
    for (int i = 0; lips_backends[i]; i++) {
        lips_device d = {.count = 1};
        char capability[32];
        for (int k = 0; k < d.count; k++) {
            lips_status st = lips_backends[i]->probe(&d, k);
            lips_json_open(j, NULL, '{');
            lips_json_string(j, "backend", lips_backends[i]->name);
            lips_json_int(j, "device", k);
            lips_json_bool(j, "usable", st == LIPS_OK);
            lips_json_string(j, st == LIPS_OK ? "name" : "reason",
                             st == LIPS_OK ? d.name : lips_error());
            if (st == LIPS_OK) {
                lips_json_string(j, "detail", d.detail);
                lips_json_bool(j, "emulated", d.emulated);
            }
            if (st == LIPS_OK && d.bytes > 0) {
                lips_json_int(j, "bytes", (int64_t)d.bytes);
                lips_json_int(j, "bytes_free", (int64_t)d.bytes_free);
                snprintf(capability, sizeof capability, "%d.%d", d.capability / 10,
                         d.capability % 10);
                lips_json_string(j, "capability", capability);
            }
            lips_json_close(j, '}');
            lips_error_clear();
        }
    }
    lips_json_close(j, ']');
}

static void print_text(const facts *f)
{
    printf("version   %s, commit %s\n", LIPS_VERSION, lips_commit());
    printf("cores     %d, kernels %s\n", f->cores, f->isa);
    printf("backends ");
    for (int i = 0; lips_backends[i]; i++)
        printf(" %s", lips_backends[i]->name);
    printf("\n");
    print_devices();
    printf("\ndata\n");
    for (int i = 0; i < FILE_SOURCES; i++)
        printf("  %-14s %s%s\n", source_name(file_sources[i]),
               f->dirs[i][0] ? f->dirs[i] : "not found: ",
               f->dirs[i][0] ? "" : lips_source_hint(file_sources[i]));
    printf("  %-14s made by the program\n", source_name(LIPS_DATA_SINE));
    printf("\nlipsweep info --keys lists the configuration keys.\n");
}

static void key_json(lips_json *j, const lips_option *o)
{
    char expects[512];
    lips_option_expects(o, expects, sizeof expects);
    lips_json_open(j, NULL, '{');
    lips_json_string(j, "key", o->name);
    lips_json_string(j, "group", o->group);
    lips_json_string(j, "value", expects);
    lips_json_string(j, "default", o->fallback);
    lips_json_string(j, "meaning", o->help);
    lips_json_bool(j, "changes_results", o->flags & LIPS_OPTION_HASHED);
    lips_json_close(j, '}');
}

static lips_status print_json(const facts *f)
{
    char *buf = malloc(JSON_MAX);
    if (!buf)
        return lips_fail(LIPS_ERR_MEMORY, "no memory for JSON");
    const lips_option *options;
    int n = lips_options(&options);
    lips_json j = lips_json_start(buf, JSON_MAX);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "version", LIPS_VERSION);
    lips_json_string(&j, "commit", lips_commit());
    lips_json_int(&j, "cores", f->cores);
    lips_json_string(&j, "kernels", f->isa);
    lips_json_open(&j, "backends", '[');
    for (int i = 0; lips_backends[i]; i++)
        lips_json_string(&j, NULL, lips_backends[i]->name);
    lips_json_close(&j, ']');
    devices_json(&j);
    choices_json(&j);
    lips_json_open(&j, "data", '{');
    for (int i = 0; i < FILE_SOURCES; i++) {
        if (f->dirs[i][0])
            lips_json_string(&j, source_name(file_sources[i]), f->dirs[i]);
        else
            lips_json_null(&j, source_name(file_sources[i]));
    }
    lips_json_close(&j, '}');
    lips_json_open(&j, "keys", '[');
    for (int i = 0; i < n; i++)
        key_json(&j, &options[i]);
    lips_json_close(&j, ']');
    lips_json_close(&j, '}');
    lips_status st = LIPS_OK;
    if (j.len >= JSON_MAX)
        st = lips_fail(LIPS_ERR_RUNTIME, "info: JSON does not fit %d bytes", JSON_MAX);
    else
        puts(buf);
    free(buf);
    return st;
}

static lips_status run(const lips_args *a)
{
    if (lips_args_has(a, "keys") || lips_args_has(a, "keys-markdown")) {
        lips_config_help(stdout, lips_args_has(a, "keys-markdown"));
        return LIPS_OK;
    }
    facts *f = calloc(1, sizeof *f);
    if (!f)
        return lips_fail(LIPS_ERR_MEMORY, "no memory");
    lips_status st = gather(f);
    if (st == LIPS_OK && lips_args_has(a, "json"))
        st = print_json(f);
    else if (st == LIPS_OK)
        print_text(f);
    free(f);
    return st;
}

const lips_command lips_command_info = {
    .name = "info",
    .usage = "[--json] [--keys]",
    .summary =
        "shows version, processor, backends and devices, data sets found, configuration keys",
    .flags = flags,
    .max_args = 0,
    .run = run,
};
