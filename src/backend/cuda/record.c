/*
 * cuda/record.c - ops recorded as a CUDA graph: captured on the handle's stream, launched by each
 * replay as one.
 */
#include "backend/cuda/ops.h"

#include <stdlib.h>

struct lips_recorded {
    cudaGraphExec_t exec;
    lips_cuda_scratchpad *scratch; /* what its ops may use; or NULL */
};

lips_status lips_cuda_unrecorded(const lips_cuda *h, const char *what)
{
    return h->recording ? lips_fail(LIPS_ERR_USAGE, "cuda: %s cannot be recorded", what) : LIPS_OK;
}

lips_status cuda_op_record_begin(lips_backend *be)
{
    lips_cuda *h;
    LIPS_TRY(lips_cuda_enter(be, &h));
    LIPS_TRY(lips_cuda_unrecorded(h, "a recording"));
    /* Other threads' handles go on as they like. */
    LIPS_TRY_CUDA(cudaStreamBeginCapture(h->stream, cudaStreamCaptureModeThreadLocal));
    h->recording = true;
    return LIPS_OK;
}

/* Ends the capture whatever it takes: a stream left in it would swallow every op to come. */
static lips_status end_capture(lips_cuda *h, cudaGraph_t *graph)
{
    enum cudaStreamCaptureStatus left = cudaStreamCaptureStatusNone;
    cudaError_t e = cudaStreamEndCapture(h->stream, graph);
    h->recording = false;
    if (e == cudaSuccess)
        return LIPS_OK;
    lips_status st = lips_cuda_fail(e, "cudaStreamEndCapture", __FILE__, __LINE__);
    if (cudaStreamIsCapturing(h->stream, &left) == cudaSuccess &&
        left == cudaStreamCaptureStatusNone)
        return st;
    e = cudaStreamEndCapture(h->stream, graph);
    if (*graph)
        (void)cudaGraphDestroy(*graph);
    *graph = NULL;
    (void)cudaGetLastError();
    return e == cudaSuccess || e == cudaErrorStreamCaptureInvalidated ? st : LIPS_ERR_DEVICE;
}

static lips_status instantiate(lips_cuda *h, cudaGraph_t graph, lips_recorded **out)
{
    lips_recorded *r = calloc(1, sizeof *r);
    if (!r)
        return lips_fail(LIPS_ERR_MEMORY, "cuda: out of memory (%zu bytes asked)", sizeof *r);
    cudaError_t e = cudaGraphInstantiate(&r->exec, graph, 0);
    if (e != cudaSuccess) {
        free(r);
        return lips_cuda_fail(e, "cudaGraphInstantiate", __FILE__, __LINE__);
    }
    r->scratch = h->scratch;
    if (r->scratch)
        r->scratch->holders++;
    *out = r;
    return LIPS_OK;
}

lips_status cuda_op_record_end(lips_backend *be, lips_recorded **out)
{
    lips_cuda *h = (lips_cuda *)be; /* on the device already: nothing may keep it from the end */
    cudaGraph_t graph = NULL;
    if (out)
        *out = NULL;
    if (!h->recording)
        return lips_fail(LIPS_ERR_USAGE, "record_end: nothing is being recorded");
    lips_status st = end_capture(h, &graph);
    if (st == LIPS_OK && out)
        st = instantiate(h, graph, out);
    if (graph)
        (void)cudaGraphDestroy(graph);
    return st;
}

lips_status cuda_op_replay(lips_backend *be, const lips_recorded *r)
{
    lips_cuda *h;
    LIPS_TRY(lips_cuda_enter(be, &h));
    if (!r)
        return lips_fail(LIPS_ERR_USAGE, "replay: the recording is NULL");
    LIPS_TRY(lips_cuda_unrecorded(h, "a replay"));
    LIPS_TRY_CUDA(cudaGraphLaunch(r->exec, h->stream));
    return LIPS_OK;
}

void cuda_op_recorded_free(lips_backend *be, lips_recorded *r)
{
    lips_cuda *h = (lips_cuda *)be;
    if (!r)
        return;
    (void)cudaSetDevice(h->device);
    lips_cuda_wait_quietly(h); /* replays may be under way */
    (void)cudaGraphExecDestroy(r->exec);
    lips_cuda_scratch_drop(h, r->scratch);
    free(r);
}
