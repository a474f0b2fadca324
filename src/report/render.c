/* report/render.c - a figure's files: script, table, and what gnuplot makes of them. */
#include "report/figure.h"

#include "base/file.h"
#include "base/log.h"
#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { COMPLAINT = 600 };
static const char *const endings[] = {"svg", "pdf", "png"};
enum { ENDINGS = sizeof endings / sizeof endings[0] };

/* The three terminals at one size: 96 pixels are an inch; PNG twice as fine. */
static void write_terminals(FILE *s, const lips_figure *f)
{
    char name[sizeof f->id]; /* goes before the drawing's ids, which share one page */
    snprintf(name, sizeof name, "%s", f->id);
    for (char *p = strchr(name, '-'); p; p = strchr(p, '-'))
        *p = '_'; /* all that gnuplot takes */
    fprintf(s,
            "do for [t in 'svg pdf png'] {\n"
            "if (t eq 'svg') { set terminal svg size %d,%d dynamic enhanced name '%s' "
            "font 'DejaVu Sans,Helvetica,Arial,sans-serif,13' background 'white' }\n"
            "if (t eq 'pdf') { set terminal pdfcairo size %.3fin,%.3fin enhanced "
            "font 'DejaVu Sans,9.75' fontscale 0.75 linewidth 1.5 }\n"
            "if (t eq 'png') { set terminal pngcairo size %d,%d enhanced "
            "font 'DejaVu Sans,9.75' fontscale 2 linewidth 2 pointscale 2 background 'white' }\n"
            "set output '%s.'.t.suffix\n",
            f->width, f->height, name, f->width / 96.0, f->height / 96.0, 2 * f->width,
            2 * f->height, f->id);
}

static lips_status write_script(const lips_figure *f, const char *path)
{
    lips_file_atomic a;
    LIPS_TRY(lips_file_begin(&a, path));
    fprintf(a.f, "# lipsweep %s. To draw again: gnuplot -d %s.gp\n", LIPS_VERSION, f->id);
    fputs("if (!exists('suffix')) suffix = ''\n", a.f);
    fwrite(f->data_text, 1, f->data_size, a.f);
    write_terminals(a.f, f);
    fputs("set multiplot\n", a.f);
    fwrite(f->body_text, 1, f->body_size, a.f);
    fputs("unset multiplot\nset output\n}\n", a.f);
    return lips_file_commit(&a);
}

/* Runs gnuplot on ID.gp in dir, its messages into `log`. *code: its exit code; errno of a failed
 * start is returned, 0 if it ran. */
static int run_gnuplot(const lips_figure *f, const char *dir, const char *suffix, int log,
                       int *code)
{
    char script[80], set_suffix[120];
    snprintf(script, sizeof script, "%s.gp", f->id);
    snprintf(set_suffix, sizeof set_suffix, "suffix='%s'", suffix);
    /* -d: the user's own start-up files would change the figures. */
    char *const argv[] = {"gnuplot", "-d", "-e", set_suffix, script, NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawn_file_actions_addchdir_np(&actions, dir);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, log, 1);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, log, 2);
    pid_t pid;
    if (!error)
        error = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return error;
    int how = 0;
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
        ;
    *code = WIFEXITED(how) ? WEXITSTATUS(how) : 128;
    return 0;
}

/* What was written to the log, on one line. */
static void read_complaint(int log, char text[COMPLAINT])
{
    ssize_t n = pread(log, text, COMPLAINT - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    size_t used = 0;
    for (const char *p = text; *p; p++) {
        bool blank = (unsigned char)*p <= ' ';
        if (!blank || (used > 0 && text[used - 1] != ' '))
            text[used++] = blank ? ' ' : *p;
    }
    while (used > 0 && text[used - 1] == ' ')
        used--;
    text[used] = '\0';
}

/* Gives the three files their names; or removes them, and older ones that would seem to be new. */
static lips_status settle(const lips_figure *f, const char *dir, const char *suffix, bool keep)
{
    lips_status st = LIPS_OK;
    for (int i = 0; i < ENDINGS; i++) {
        char temp[LIPS_PATH_MAX], path[LIPS_PATH_MAX];
        LIPS_TRY(lips_path(temp, sizeof temp, "%s/%s.%s%s", dir, f->id, endings[i], suffix));
        LIPS_TRY(lips_path(path, sizeof path, "%s/%s.%s", dir, f->id, endings[i]));
        if (!keep) {
            unlink(temp);
            unlink(path);
        } else if (st == LIPS_OK && rename(temp, path) != 0) {
            st = lips_fail(LIPS_ERR_RUNTIME, "cannot write %s: %s", path, strerror(errno));
        }
    }
    return st;
}

static lips_status warn_missing(lips_report *r, lips_gnuplot *g)
{
    g->missing = true;
    lips_warn("gnuplot is not installed: the report has tables but no figures (apt-get install "
              "gnuplot-nox)");
    return lips_report_warn(r,
                            "gnuplot is not installed, so that there are no figures here, only "
                            "their tables. Install it (apt-get install gnuplot-nox) and make the "
                            "report again.");
}

static lips_status draw(lips_figure *f, lips_report *r, const char *dir, lips_gnuplot *g)
{
    char suffix[64], complaint[COMPLAINT] = "";
    snprintf(suffix, sizeof suffix, ".tmp.%ld.0", (long)getpid());
    int log = memfd_create("gnuplot", MFD_CLOEXEC), code = 0;
    if (log < 0)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot start gnuplot: %s", strerror(errno));
    int error = run_gnuplot(f, dir, suffix, log, &code);
    read_complaint(log, complaint);
    close(log);
    if (error == ENOENT)
        return warn_missing(r, g);
    if (error)
        return lips_fail(LIPS_ERR_RUNTIME, "cannot start gnuplot: %s", strerror(error));
    if (code != 0 || complaint[0]) {
        lips_warn("%s/%s.gp: gnuplot (exit %d): %s", dir, f->id, code, complaint);
        LIPS_TRY(lips_report_warn(r, "gnuplot on %s.gp (exit %d): %s", f->id, code, complaint));
    }
    LIPS_TRY(settle(f, dir, suffix, code == 0));
    f->rendered = code == 0;
    return LIPS_OK;
}

lips_status lips_figure_render(lips_figure *f, lips_report *r, const char *dir, lips_gnuplot *g)
{
    char path[LIPS_PATH_MAX];
    LIPS_TRY(lips_path(path, sizeof path, "%s/%s.csv", dir, f->id));
    LIPS_TRY(lips_file_write(path, f->csv_text, f->csv_size));
    LIPS_TRY(lips_path(path, sizeof path, "%s/%s.gp", dir, f->id));
    LIPS_TRY(write_script(f, path));
    return g->missing ? LIPS_OK : draw(f, r, dir, g);
}
