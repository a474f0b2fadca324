#include "sweep/cell_files.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NOTE_BYTES = 4096, YAML_BYTES = 65536 };

static bool has_file(const char *dir, const char *name)
{
    char path[LIPS_PATH_MAX];
    return lips_path(path, sizeof path, "%s/%s", dir, name) == LIPS_OK && lips_file_exists(path);
}

lips_cell_state lips_cell_state_read(const char *dir)
{
    if (has_file(dir, "done"))
        return LIPS_CELL_DONE;
    return has_file(dir, "failed") ? LIPS_CELL_FAILED : LIPS_CELL_WAITING;
}

void lips_config_portable(lips_config *cfg)
{
    cfg->out[0] = '\0';
    cfg->jobs = 0;
    snprintf(cfg->device, sizeof cfg->device, "all");
    cfg->cells_per_device = 0;
    cfg->hang_seconds = 0;
    cfg->emulated = false;
    cfg->checkpoint_epochs = 0;
    cfg->checkpoint_seconds = 0;
}

lips_status lips_cell_write_config(const char *dir, const lips_config *portable)
{
    char path[LIPS_PATH_MAX];
    char *yaml = malloc(YAML_BYTES);
    if (!yaml)
        return lips_fail(LIPS_ERR_MEMORY, "out of memory writing a cell's settings");
    lips_status st;
    LIPS_TRY_GOTO(st, lips_path(path, sizeof path, "%s/config.yaml", dir), out);
    LIPS_TRY_GOTO(st, lips_config_yaml(portable, yaml, YAML_BYTES), out);
    LIPS_TRY_GOTO(st, lips_file_write(path, yaml, strlen(yaml)), out);
out:
    free(yaml);
    return st;
}

/* Closes the object, adds the end of line and writes it. */
static lips_status write_note(const char *dir, const char *file, lips_json *j)
{
    char path[LIPS_PATH_MAX];
    lips_json_close(j, '}');
    if (j->len + 1 >= j->size)
        return lips_fail(LIPS_ERR_RUNTIME, "%s/%s: the text is longer than %zu bytes", dir, file,
                         j->size);
    j->buf[j->len] = '\n';
    LIPS_TRY(lips_path(path, sizeof path, "%s/%s", dir, file));
    return lips_file_write(path, j->buf, j->len + 1);
}

lips_status lips_cell_write_done(const char *dir, int64_t epoch, const char *stopped)
{
    char buf[NOTE_BYTES];
    lips_json j = lips_json_start(buf, sizeof buf);
    lips_json_open(&j, NULL, '{');
    lips_json_int(&j, "epoch", epoch);
    lips_json_string(&j, "stopped", stopped);
    return write_note(dir, "done", &j);
}

static const char *reason_of(lips_status why)
{
    switch (why) {
    case LIPS_ERR_DIVERGED: return "diverged";
    case LIPS_ERR_MEMORY: return "oom";
    case LIPS_ERR_DATA: return "data";
    case LIPS_ERR_DEVICE: return "device";
    default: return "runtime";
    }
}

lips_status lips_cell_write_failed(const char *dir, lips_status why, int64_t epoch,
                                   const char *message)
{
    char buf[2 * NOTE_BYTES];
    lips_json j = lips_json_start(buf, sizeof buf);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "reason", reason_of(why));
    lips_json_int(&j, "epoch", epoch);
    lips_json_string(&j, "message", message);
    return write_note(dir, "failed", &j);
}

lips_status lips_cell_write_device_lost(const char *dir, int64_t epoch, lips_suspicion lost,
                                        const char *message)
{
    char buf[2 * NOTE_BYTES];
    lips_json j = lips_json_start(buf, sizeof buf);
    lips_json_open(&j, NULL, '{');
    lips_json_string(&j, "reason", lost == LIPS_SUSPECT_DEVICE ? "device" : "process");
    lips_json_int(&j, "epoch", epoch);
    lips_json_string(&j, "message", message);
    return write_note(dir, "device-lost", &j);
}

lips_suspicion lips_cell_device_lost(const char *dir)
{
    lips_note note;
    if (!has_file(dir, "device-lost"))
        return LIPS_SUSPECT_NOT;
    return lips_note_read(&note, dir, "device-lost") && strcmp(note.reason, "device") == 0
               ? LIPS_SUSPECT_DEVICE
               : LIPS_SUSPECT_PROCESS;
}

static const char *const resume_files[] = {"state.safetensors",     "state.prev.safetensors",
                                           "state.new.safetensors", "progress.json",
                                           "device-lost",           NULL};
static const char *const result_files[] = {"metrics.jsonl", "failed", NULL};

void lips_cell_tidy(const char *dir)
{
    char path[LIPS_PATH_MAX];
    for (int i = 0; resume_files[i]; i++)
        if (lips_path(path, sizeof path, "%s/%s", dir, resume_files[i]) == LIPS_OK)
            unlink(path);
}

lips_status lips_cell_reset(const char *dir)
{
    char path[LIPS_PATH_MAX];
    lips_cell_tidy(dir);
    for (int i = 0; result_files[i]; i++) {
        LIPS_TRY(lips_path(path, sizeof path, "%s/%s", dir, result_files[i]));
        if (unlink(path) != 0 && errno != ENOENT)
            return lips_fail(LIPS_ERR_RUNTIME, "cannot remove %s: %s", path, strerror(errno));
    }
    return LIPS_OK;
}

static void copy_string(char *out, size_t size, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, size, "%s", text ? text : "");
}

bool lips_note_read(lips_note *out, const char *dir, const char *file)
{
    char path[LIPS_PATH_MAX], *text = NULL;
    size_t size = 0;
    *out = (lips_note){0};
    if (lips_path(path, sizeof path, "%s/%s", dir, file) != LIPS_OK || !lips_file_exists(path) ||
        lips_file_read(&text, &size, path, 2 * NOTE_BYTES) != LIPS_OK)
        return false;
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    bool ok = json_is_object(object);
    if (ok) {
        out->epoch = json_integer_value(json_object_get(object, "epoch"));
        out->epochs = json_integer_value(json_object_get(object, "epochs"));
        out->left_seconds = json_number_value(json_object_get(object, "left_seconds"));
        copy_string(out->reason, sizeof out->reason, object, "reason");
        copy_string(out->message, sizeof out->message, object, "message");
    }
    json_decref(object);
    free(text);
    return ok;
}

void lips_note_write_progress(const char *dir, const char *json)
{
    char path[LIPS_PATH_MAX], temp[LIPS_PATH_MAX];
    if (lips_path(path, sizeof path, "%s/progress.json", dir) != LIPS_OK ||
        lips_path(temp, sizeof temp, "%s.tmp.%ld.0", path, (long)getpid()) != LIPS_OK)
        return;
    FILE *f = fopen(temp, "we");
    if (!f)
        return;
    bool ok = fprintf(f, "%s\n", json) > 0;
    if (fclose(f) != 0 || !ok || rename(temp, path) != 0)
        unlink(temp);
}
