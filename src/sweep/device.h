/*
 * sweep/device.h - which backend and devices an experiment runs on.
 */
#ifndef LIPS_SWEEP_DEVICE_H
#define LIPS_SWEEP_DEVICE_H

#include "backend/backend.h"
#include "config/config.h"

/* The devices that cells are spread over. A backend without devices of its own has one: the host.
 */
typedef struct lips_devices {
    const lips_ops *ops;
    bool own; /* they have memory of their own: GPUs */
    int n, at[LIPS_DEVICES_MAX];
} lips_devices;

/* Puts the backend that auto means here in its place, so that folders and records name what was
 * used; any other is left alone. LIPS_ERR_USAGE: auto among several values; an emulated
 * device without emulated: true. */
lips_status lips_experiment_resolve_backend(lips_experiment *e);

/* The devices of the key `device`; of all, those that can be used, with a line about each other
 * one. Of several backends it is those of the one that has devices. LIPS_ERR_USAGE: one that is
 * named does not exist; jobs or cells_per_device do not go with their number. LIPS_ERR_UNSUPPORTED:
 * there is none, or one that is named cannot be used. */
lips_status lips_devices_find(lips_devices *out, const lips_experiment *e);

/* The configuration's backend, opened on a device. */
lips_status lips_device_open(lips_backend **out, const lips_config *cfg, int device);

/* Bytes that cells may take now: of the device's memory if it has its own, of the host's (swap
 * included) if not; 1e300 where nobody knows. */
double lips_memory_available(const lips_ops *ops, int device);

/* Cells at once on all devices together: jobs, or one per core that this process may use, but no
 * device without one. */
int64_t lips_sweep_jobs(const lips_config *cfg, const lips_devices *d);

#endif
