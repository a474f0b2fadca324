/* Any bytes as a configuration: refused with a text, or read, written and read back to the same
 * cells. */
#include "config/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A legal million of values takes seconds under sanitizers; they are tested in tests/config. */
static bool may_be_large(const char *text)
{
    bool axis = strstr(text, "..") || strstr(text, "range") || strstr(text, "logspace");
    int run = 0, longest = 0;
    for (const char *p = text; *p; p++) {
        run = isdigit((unsigned char)*p) || *p == 'e' ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return axis && longest > 2;
}

static void read_back(const lips_experiment *e)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return;
    if (lips_experiment_yaml(e, f) != LIPS_OK)
        abort();
    fclose(f);
    lips_experiment *again = calloc(1, sizeof *again);
    const lips_config_sources src = {.yaml_text = text};
    if (!again || lips_experiment_load(again, &src) != LIPS_OK)
        abort();
    int64_t cells = lips_experiment_cells(e);
    if (lips_experiment_cells(again) != cells)
        abort();
    lips_config a, b;
    if (cells > 0 && (lips_experiment_cell(e, cells - 1, &a) != LIPS_OK ||
                      lips_experiment_cell(again, cells - 1, &b) != LIPS_OK ||
                      lips_config_hash(&a) != lips_config_hash(&b) || strcmp(a.out, b.out) != 0 ||
                      strcmp(a.name, b.name) != 0 || strcmp(a.data_dir, b.data_dir) != 0))
        abort();
    lips_experiment_free(again);
    free(again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    lips_experiment *e = malloc(sizeof *e);
    if (text && e && size > 0) {
        memcpy(text, bytes, size);
        text[size] = '\0';
        const lips_config_sources src = {.yaml_text = text, .yaml_size = size};
        if (!may_be_large(text)) {
            if (lips_experiment_load(e, &src) == LIPS_OK) {
                read_back(e);
                lips_experiment_free(e);
            } else if (!lips_error()[0]) {
                abort(); /* refused without saying why */
            }
        }
    }
    free(e);
    free(text);
    return 0;
}
