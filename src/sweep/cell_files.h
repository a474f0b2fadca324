/* sweep/cell_files.h - the small files of a cell's folder and of OUT. */
#ifndef LIPS_SWEEP_CELL_FILES_H
#define LIPS_SWEEP_CELL_FILES_H

#include "config/config.h"

typedef enum lips_cell_state {
    LIPS_CELL_WAITING,
    LIPS_CELL_DONE,
    LIPS_CELL_FAILED
} lips_cell_state;

/* What the folder says: `done` wins over `failed`. */
lips_cell_state lips_cell_state_read(const char *dir);

/* cfg without the settings that change no result, so that files that carry it do not differ. */
void lips_config_portable(lips_config *cfg);

lips_status lips_cell_write_config(const char *dir, const lips_config *portable);
lips_status lips_cell_write_done(const char *dir, int64_t epoch, const char *stopped);
lips_status lips_cell_write_failed(const char *dir, lips_status why, int64_t epoch,
                                   const char *message);

/* The device was lost while this cell ran, perhaps by its doing: it is tried again, alone on its
 * device, or alone in its process where all devices were lost at once. The note goes when the cell
 * is done or begun anew. */
typedef enum lips_suspicion {
    LIPS_SUSPECT_NOT,
    LIPS_SUSPECT_DEVICE,
    LIPS_SUSPECT_PROCESS
} lips_suspicion;
lips_status lips_cell_write_device_lost(const char *dir, int64_t epoch, lips_suspicion lost,
                                        const char *message);
lips_suspicion lips_cell_device_lost(const char *dir);
/* Removes everything that a restart from epoch 0 must not see. */
lips_status lips_cell_reset(const char *dir);
/* Removes what only a resume needs; failures do not matter. */
void lips_cell_tidy(const char *dir);

/* A small JSON object of one of these files. */
typedef struct lips_note {
    int64_t epoch, epochs;
    double left_seconds;
    char reason[32], message[1024];
} lips_note;
/* false: there is none, or it is damaged. */
bool lips_note_read(lips_note *out, const char *dir, const char *file);
/* Writes dir/progress.json; not synced to disk, and it may fail: it is only for `status`. */
void lips_note_write_progress(const char *dir, const char *json);

#endif
