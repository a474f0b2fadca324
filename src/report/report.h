/*
 * report/report.h - results.csv, results.sqlite, figures and the page, all derived from OUT/cells.
 */
#ifndef LIPS_REPORT_REPORT_H
#define LIPS_REPORT_REPORT_H

#include "base/status.h"

/* Rebuilds everything under OUT (results.csv, results.sqlite, report/); each file atomically. *page
 * (4096 bytes) receives the path of index.html. Works on unfinished sweeps and says so in the page.
 * Without gnuplot the page has no figures and says why; the tables are made. LIPS_ERR_DATA: out
 * holds no sweep. */
lips_status lips_report_build(const char *out, char *page);

#endif
