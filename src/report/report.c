#include "report/report.h"

#include "base/file.h"
#include "report/csv.h"
#include "report/html.h"
#include "report/sqlite.h"

static lips_status build(lips_report *r, lips_figure_list *figures, lips_claims *claims,
                         const char *out, char *page)
{
    char dir[LIPS_PATH_MAX], path[LIPS_PATH_MAX];
    LIPS_TRY(lips_report_collect(r, out));
    LIPS_TRY(lips_path(dir, sizeof dir, "%s/report", out));
    LIPS_TRY(lips_path(page, LIPS_PATH_MAX, "%s/report/index.html", out));
    LIPS_TRY(lips_dir_create(dir));
    lips_dir_remove_temps(dir);
    LIPS_TRY(lips_report_add_warnings(r));
    LIPS_TRY(lips_report_csv(r));
    LIPS_TRY(lips_report_sqlite(r));
    LIPS_TRY(lips_figures_build(figures, r, dir));
    LIPS_TRY(lips_claims_judge(claims, r));
    LIPS_TRY(lips_path(path, sizeof path, "%s/claims.csv", dir));
    LIPS_TRY(lips_claims_csv(claims, r, path));
    return lips_report_html(r, figures, claims, dir, page);
}

lips_status lips_report_build(const char *out, char *page)
{
    lips_report r = {.x_axis = -1};
    lips_figure_list figures = {0};
    lips_claims claims = {0};
    lips_status st = build(&r, &figures, &claims, out, page);
    lips_claims_free(&claims);
    lips_figures_free(&figures);
    lips_report_free(&r);
    return st;
}
