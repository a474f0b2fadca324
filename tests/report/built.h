/* built.h - reports of synthetic sweeps, each in a folder of its own below `base`. */
#ifndef TESTS_REPORT_BUILT_H
#define TESTS_REPORT_BUILT_H

#include "../lib/tempdir.h"
#include "report/model.h"
#include "report/report.h"
#include "synthetic.h"

static char base[256];

static const char small[] =
    "name: small\nout: /some/where\nwidth: [64, 4, 16, 256]\nseed: 0..2\nlabel_noise: 0.2\n"
    "epochs: 10\neval_epochs: log:4\nmeasure_epochs: \"0,end\"\n";

/* A new folder below base. */
static const char *out_dir(void)
{
    static char path[300];
    static int number; /* each test has its own */
    snprintf(path, sizeof path, "%s/out%d", base, number++);
    return path;
}

static char *read_file(const char *out, const char *name)
{
    char path[4096], *text = NULL;
    size_t size = 0;
    lips_path(path, sizeof path, "%s/%s", out, name);
    if (lips_file_read(&text, &size, path, (size_t)1 << 28) != LIPS_OK)
        fail_msg("%s", lips_error());
    return text;
}

static int count_text(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
        n++;
    return n;
}

static void build_ok(const char *out)
{
    char page[4096];
    if (lips_report_build(out, page) != LIPS_OK)
        fail_msg("%s", lips_error());
    assert_non_null(strstr(page, "/report/index.html"));
    assert_true(lips_file_exists(page));
}

static bool has_warning(const lips_report *r, const char *text)
{
    for (int i = 0; i < r->warnings.n; i++)
        if (strstr(r->warnings.text[i], text))
            return true;
    return false;
}

#endif
