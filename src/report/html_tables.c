/* report/html_tables.c - the page's table of cells, and where its numbers come from. */
#include "report/html.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/safetensors.h"
#include "base/version.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 2000, SMALL_FILE = 1 << 20 };

static const struct column {
    const char *name;
    lips_pick pick;
} columns[] = {
    {"train error", {.quantity = "error", .split = "train", .epoch = LIPS_LATEST}},
    {"test error", {.quantity = "error", .split = "test", .epoch = LIPS_LATEST}},
    {"train loss", {.quantity = "loss", .split = "train", .epoch = LIPS_LATEST}},
    {"test loss", {.quantity = "loss", .split = "test", .epoch = LIPS_LATEST}},
    {"interpolation epoch", {.quantity = "interpolation_epoch", .epoch = LIPS_LATEST}},
    {"memorised", {.quantity = "memorized", .epoch = LIPS_LATEST}},
    {"‖∂f/∂x‖₂",
     {.quantity = "jacobian",
      .norm = "op",
      .output = "logits",
      .split = "train",
      .epoch = LIPS_LATEST}},
    {"distance", {.quantity = "distance.total", .epoch = LIPS_LATEST}},
};
enum { COLUMN_COUNT = sizeof columns / sizeof columns[0] };

static bool column_used(const lips_report *r, const struct column *c)
{
    for (int64_t i = 0; i < r->n_cells; i++)
        if (lips_report_find(r, &r->cells[i], &c->pick))
            return true;
    return false;
}

static void put_value(FILE *f, const lips_record *rec)
{
    if (rec && rec->form == LIPS_FORM_NULL) {
        fputs("<td class=\"n\" title=\"", f);
        lips_html_text(f, rec->reason);
        fputs("\">\u2013</td>", f);
    } else if (rec) {
        fprintf(f, "<td class=\"n\">%.4g</td>", lips_record_number(rec));
    } else {
        fputs("<td></td>", f);
    }
}

static void put_cell_row(FILE *f, const lips_report *r, int64_t i, const bool used[COLUMN_COUNT])
{
    const lips_report_cell *c = &r->cells[i];
    const char *state = lips_cell_state_name(c->state);
    fprintf(f, "<tr class=\"%s\"><td>", c->damaged ? "failed" : state);
    lips_html_text(f, c->name);
    fputs("</td>", f);
    for (int a = 0; a < r->experiment.n_axes; a++) {
        fputs("<td class=\"n\">", f);
        lips_html_text(f, lips_report_axis_value(r, a, i));
        fputs("</td>", f);
    }
    fputs("<td title=\"", f);
    lips_html_text(f, c->message ? c->message : "");
    fprintf(f, "\">%s", c->damaged ? "damaged" : state);
    if (c->reason) {
        fputs(": ", f);
        lips_html_text(f, c->reason);
    }
    fputs("</td><td class=\"n\">", f);
    if (c->epoch >= 0)
        fprintf(f, "%" PRId64, c->epoch);
    fputs("</td>", f);
    for (int k = 0; k < COLUMN_COUNT; k++)
        if (used[k])
            put_value(f, lips_report_find(r, c, &columns[k].pick));
    fputs("</tr>\n", f);
}

void lips_html_cells(FILE *f, const lips_report *r)
{
    bool used[COLUMN_COUNT];
    fputs("<h2 id=\"cells\">Cells</h2>\n<p class=\"files\">At each cell's last evaluated or "
          "measured epoch. "
          "All records: <a href=\"../results.csv\">results.csv</a> "
          "<a href=\"../results.sqlite\">results.sqlite</a></p>\n<div class=\"scroll\"><table>"
          "<thead><tr><th>cell</th>",
          f);
    for (int a = 0; a < r->experiment.n_axes; a++)
        fprintf(f, "<th>%s</th>", lips_report_axis_name(r, a));
    fputs("<th>state</th><th>epochs</th>", f);
    for (int k = 0; k < COLUMN_COUNT; k++) {
        used[k] = column_used(r, &columns[k]);
        if (used[k])
            fprintf(f, "<th>%s</th>", columns[k].name);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int64_t i = 0; i < r->n_cells && i < ROWS_MAX; i++)
        put_cell_row(f, r, i, used);
    fputs("</tbody></table></div>\n", f);
    if (r->n_cells > ROWS_MAX)
        fprintf(f, "<p>The first %d of %" PRId64 " cells; results.sqlite has all.</p>\n", ROWS_MAX,
                r->n_cells);
}

/* ---- provenance ---- */

static void put_data_hashes(FILE *f, const lips_report *r)
{
    char path[LIPS_PATH_MAX], *text = NULL;
    size_t size = 0;
    if (lips_path(path, sizeof path, "%s/datasets.json", r->out) != LIPS_OK ||
        !lips_file_exists(path) || lips_file_read(&text, &size, path, SMALL_FILE) != LIPS_OK)
        return;
    json_t *hashes = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    const char *key;
    json_t *v;
    json_object_foreach(hashes, key, v)
    {
        fputs("<dd><code>", f);
        lips_html_text(f, json_is_string(v) ? json_string_value(v) : "?");
        fputs("</code> ", f);
        lips_html_text(f, key);
        fputs("</dd>\n", f);
    }
    json_decref(hashes);
    free(text);
}

/* Version and commit in the first weights file there is. */
static void put_trained_by(FILE *f, const lips_report *r)
{
    for (int64_t i = 0; i < r->n_cells; i++) {
        const lips_report_cell *c = &r->cells[i];
        char path[LIPS_PATH_MAX];
        lips_st_file *w = NULL;
        if (c->state != LIPS_CELL_DONE ||
            lips_path(path, sizeof path, "%s/cells/%s/epoch-%04" PRId64 ".safetensors", r->out,
                      c->name, c->epoch) != LIPS_OK ||
            !lips_file_exists(path) || lips_st_read(&w, path) != LIPS_OK)
            continue;
        const char *version = lips_st_meta(w, "lipsweep.version");
        const char *commit = lips_st_meta(w, "lipsweep.commit");
        fputs("<dt>Trained by</dt><dd>lipsweep ", f);
        lips_html_text(f, version ? version : "?");
        fputs(", commit <code>", f);
        lips_html_text(f, commit ? commit : "?");
        fputs("</code> (weights of ", f);
        lips_html_text(f, c->name);
        fputs(")</dd>\n", f);
        lips_st_free(w);
        return;
    }
}

/* Where and with what precision the numbers were computed: the first record is of the network,
 * where later ones may be of its weights alone, which are always treated in float64. */
static void put_arithmetic(FILE *f, const lips_report *r)
{
    for (int64_t i = 0; i < r->n_records; i++)
        if (r->records[i].precision && r->records[i].device) {
            fprintf(f, "<dt>Arithmetic</dt><dd>%s on the %s backend</dd>\n",
                    r->records[i].precision, r->records[i].device);
            return;
        }
}

/* *out = the lines of sweep.yaml (malloc'ed) whose keys change results, and the name: the same on
 * every machine. */
static lips_status portable_settings(char **out, size_t *size, const lips_report *r)
{
    char path[LIPS_PATH_MAX], *yaml = NULL;
    size_t bytes = 0;
    *out = NULL;
    LIPS_TRY(lips_path(path, sizeof path, "%s/sweep.yaml", r->out));
    LIPS_TRY(lips_file_read(&yaml, &bytes, path, SMALL_FILE));
    FILE *f = open_memstream(out, size);
    if (!f) {
        free(yaml);
        return lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's settings");
    }
    for (char *line = yaml, *next; *line; line = next) {
        size_t length = strcspn(line, "\n"), key = strcspn(line, ":\n");
        next = line + length + (line[length] == '\n');
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(key < 63 ? key : 63), line);
        int row = lips_option_find(name);
        if (row >= 0 && (r->options[row].flags & LIPS_OPTION_HASHED || strcmp(name, "name") == 0))
            fprintf(f, "%.*s\n", (int)length, line);
    }
    fclose(f);
    free(yaml);
    return *out ? LIPS_OK : lips_fail(LIPS_ERR_MEMORY, "out of memory for a report's settings");
}

lips_status lips_html_provenance(FILE *f, const lips_report *r)
{
    char data[LIPS_PATH_MAX], *yaml = NULL;
    size_t size = 0;
    LIPS_TRY(portable_settings(&yaml, &size, r));
    fprintf(
        f,
        "<h2 id=\"provenance\">Provenance</h2>\n<dl>\n<dt>Report by</dt><dd>lipsweep %s, commit "
        "<code>%s</code></dd>\n",
        LIPS_VERSION, lips_commit());
    put_trained_by(f, r);
    put_arithmetic(f, r);
    lips_option_print(&r->options[lips_option_find("data")], &r->experiment.base, data,
                      sizeof data);
    fputs("<dt>Data</dt><dd>", f);
    lips_html_text(f, data);
    fputs("; content hashes (XXH3 of all that training sees):</dd>\n", f);
    put_data_hashes(f, r);
    fprintf(f,
            "<dt>Settings</dt><dd>hash <code>%016" PRIx64
            "</code> of the text below, which holds every setting that changes results; "
            "each cell's name ends in the hash of its own</dd>\n</dl>\n<pre>",
            lips_hash64(yaml, size));
    lips_html_text(f, yaml);
    fputs("</pre>\n", f);
    free(yaml);
    return LIPS_OK;
}
